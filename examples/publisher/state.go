package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// stage is how far a job has come, as far as this publisher knows.
type stage string

const (
	planned  stage = "planned"  // about to be published: the stream may have it or not
	sent     stage = "sent"     // the stream has it: an answer will come
	answered stage = "answered" // nothing is left to do
)

// State is what has to survive a restart: which jobs there are and how far each has come. It is a file that only
// grows, one JSON object a line, each on disk before the step that it announces is done.
type State struct {
	mu    sync.Mutex
	file  *os.File
	jobs  map[string]*entry
	order []string
}

type entry struct {
	Stage stage `json:"stage"`
	Job   Job   `json:"job"`
}

// OpenState reads the file, which need not exist yet.
func OpenState(path string) (*State, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the state file: %w", err)
	}
	s := &State{file: file, jobs: map[string]*entry{}}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the state file: %w", err), file.Close())
	}
	return s, nil
}

// load replays the file. A last line without its end was being written when the process died: it does not count, and
// it is cut off, so that the next line is not glued to it.
func (s *State) load() error {
	reader := bufio.NewReader(s.file)
	var size int64
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return s.file.Truncate(size)
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("at byte %d: %w", size, err)
		}
		s.apply(&e)
		size += int64(len(line))
	}
}

func (s *State) apply(e *entry) {
	known, ok := s.jobs[e.Job.ID]
	if !ok {
		s.jobs[e.Job.ID] = e
		s.order = append(s.order, e.Job.ID)
		return
	}
	known.Stage = e.Stage
}

// Planned notes a job before it is published.
func (s *State) Planned(job *Job) error { return s.note(&entry{Stage: planned, Job: *job}) }

// Sent notes that the stream has the job.
func (s *State) Sent(id string) error { return s.note(&entry{Stage: sent, Job: Job{ID: id}}) }

// Answered notes that nothing is left to do for the job.
func (s *State) Answered(id string) error { return s.note(&entry{Stage: answered, Job: Job{ID: id}}) }

func (s *State) note(e *entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode the state of job %s: %w", e.Job.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	s.apply(e)
	return nil
}

// Open returns the jobs without an answer in the order in which they were planned, each with how far it came.
func (s *State) Open() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []entry
	for _, id := range s.order {
		if e := s.jobs[id]; e.Stage != answered {
			open = append(open, *e)
		}
	}
	return open
}

// Close closes the file.
func (s *State) Close() error { return s.file.Close() }

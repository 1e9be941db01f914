package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"dbrunner/internal/db/migration"
)

// How often a meter speaks by itself: on a terminal it rewrites one line, elsewhere a line now and then.
const (
	meterRedraw = 200 * time.Millisecond
	meterRepeat = 30 * time.Second
)

// meter shows the progress of a migration. Its own goroutine writes, so that a reader who is slow does not hold
// up the migration; stop waits for it.
type meter struct {
	statusLine
	started time.Time
	ended   chan struct{}
	news    chan struct{} // there is something to write
	writing sync.WaitGroup

	mu    sync.Mutex // guards what follows
	at    migration.Progress
	files []migration.Progress // started and not reported yet
}

func newMeter(out io.Writer) *meter {
	m := &meter{
		statusLine: statusLine{out: out, on: onTerminal(out)}, started: time.Now(), ended: make(chan struct{}), news: make(chan struct{}, 1),
	}
	m.writing.Go(m.run)
	return m
}

// note takes the news of a migration. It does not block.
func (m *meter) note(p migration.Progress) {
	m.mu.Lock()
	if p.File != m.at.File {
		m.files = append(m.files, p)
	}
	m.at = p
	m.mu.Unlock()
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// fileStarted reports whether any file was started.
func (m *meter) fileStarted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at.File != ""
}

// stop writes the remaining lines and clears the line on the terminal.
func (m *meter) stop() {
	close(m.ended)
	m.writing.Wait()
	m.report()
	m.clear()
}

func (m *meter) run() {
	every := meterRepeat
	if m.on {
		every = meterRedraw
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-m.ended:
			return
		case <-m.news:
			m.report()
		case <-ticker.C:
			m.repeat()
		}
	}
}

// report writes a line for each file that was started. On a terminal the rewritten line does.
func (m *meter) report() {
	m.mu.Lock()
	files := m.files
	m.files = nil
	m.mu.Unlock()
	if m.on {
		return
	}
	for _, p := range files {
		_, _ = fmt.Fprintf(m.out, "%s, file %d of %d, %s\n", p.File, p.Index, p.Of, countOf(p.Statements, "statement"))
	}
}

// repeat returns where the migration is.
func (m *meter) repeat() {
	m.mu.Lock()
	p := m.at
	m.mu.Unlock()
	elapsed := time.Since(m.started).Round(time.Second)
	text := fmt.Sprintf("%s  waiting for the database, or for the lock of migrations", elapsed)
	if p.File != "" {
		text = fmt.Sprintf("%s  file %d of %d, statement %d of %d  %s", elapsed, p.Index, p.Of, p.Statement, p.Statements, p.File)
	}
	m.draw(text)
	if !m.on {
		_, _ = fmt.Fprintln(m.out, text)
	}
}

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// answers receives the answers of one backlog, as a subscriber like any other, and checks each.
type answers struct {
	work  *work
	total int
	warm  int // answers before the clock starts

	runners int // that each have answered before the clock starts; 0: it does not matter who answers

	started, ended chan struct{}
	begin, end     time.Time

	mu    sync.Mutex
	seen  []bool
	count int
	by    map[string]int // answers of each runner since the clock started
	err   error
	buf   []byte
}

func newAnswers(w *work, total, warm, runners int) *answers {
	return &answers{
		work: w, total: total, warm: warm, runners: runners, seen: make([]bool, total), by: map[string]int{},
		started: make(chan struct{}), ended: make(chan struct{}),
	}
}

// subscribe receives on subjects whose last token ends in `_<n>`.
func subscribe(nc *nats.Conn, subjects string, a *answers) (*answers, *nats.Subscription, error) {
	sub, err := nc.Subscribe(subjects, a.receive)
	if err != nil {
		return nil, nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, nil, err
	}
	return a, sub, nc.Flush()
}

func (a *answers) receive(m *nats.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err := numberOf(m.Subject)
	switch {
	case err != nil:
	case n >= a.total:
		err = fmt.Errorf("an answer to job %d of %d", n, a.total)
	case a.seen[n]:
		err = fmt.Errorf("a second answer to job %d", n)
	default:
		a.seen[n] = true
		err = a.work.check(m.Data, n, a.buf)
	}
	a.count++
	if a.runners > 0 {
		a.by[runnerOf(m.Data)]++
	}
	if err == nil && a.count == a.total && a.begin.IsZero() {
		err = fmt.Errorf("all %d jobs were answered before each of %d runners had one: %d had", a.total, a.runners, len(a.by))
	}
	if err != nil && a.err == nil {
		a.err = err
	}
	if a.begin.IsZero() && (a.err != nil || a.count >= a.warm && len(a.by) >= a.runners) {
		a.start()
	}
	if a.end.IsZero() && (a.err != nil || a.count == a.total) {
		a.end = time.Now()
		close(a.ended)
	}
}

func (a *answers) start() {
	a.begin, a.warm = time.Now(), a.count
	for name := range a.by {
		a.by[name] = 0
	}
	close(a.started)
}

// answered is how many answers came so far.
func (a *answers) answered() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// shares are the fewest and the most answers of a runner, of a fair share, in percent.
func (a *answers) shares() (least, most float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fair := float64(a.count-a.warm) / float64(max(len(a.by), 1))
	for _, n := range a.by {
		share := 100 * float64(n) / fair
		if least == 0 || share < least {
			least = share
		}
		most = max(most, share)
	}
	return least, most
}

// runnerOf reads who has answered.
func runnerOf(answer []byte) string {
	_, rest, _ := bytes.Cut(answer, []byte(`"runner":"`))
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(name)
}

func (a *answers) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// rate is jobs in a second between the two marks.
func (a *answers) rate() float64 { return float64(a.total-a.warm) / a.end.Sub(a.begin).Seconds() }

func numberOf(subject string) (int, error) {
	i := bytes.LastIndexByte([]byte(subject), '_')
	n, err := strconv.Atoi(subject[i+1:])
	if err != nil || i < 0 || n < 0 {
		return 0, fmt.Errorf("an answer on subject %s", subject)
	}
	return n, nil
}

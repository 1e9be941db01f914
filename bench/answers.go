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

	started, ended chan struct{}
	begin, end     time.Time

	mu    sync.Mutex
	seen  []bool
	count int
	err   error
	buf   []byte
}

// subscribe receives on subjects whose last token ends in `_<n>`.
func subscribe(nc *nats.Conn, subjects string, w *work, total, warm int) (*answers, *nats.Subscription, error) {
	a := &answers{
		work: w, total: total, warm: warm, seen: make([]bool, total),
		started: make(chan struct{}), ended: make(chan struct{}),
	}
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
	if err != nil && a.err == nil {
		a.err = err
		a.finish()
	}
	a.count++
	switch a.count {
	case a.warm:
		a.begin = time.Now()
		close(a.started)
	case a.total:
		a.finish()
	}
}

func (a *answers) finish() {
	if a.end.IsZero() {
		a.end = time.Now()
		close(a.ended)
	}
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

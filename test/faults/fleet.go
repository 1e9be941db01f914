package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dbrunner/test/faults/check"
)

const (
	runners      = 3
	ackWait      = 2 * time.Second
	drainTimeout = 5 * time.Second
	// exitGrace is the drain time, the two seconds in which last results are stored, and what the system may take.
	exitGrace = drainTimeout + 2*time.Second + 8*time.Second
	// restartPause is how soon a runner that has ended is started again, as a service manager would.
	restartPause = 200 * time.Millisecond
)

// runner is one place in the fleet: a process that exits is replaced by another.
type runner struct {
	fleet *fleet
	name  string

	mu      sync.Mutex
	binary  string   // of the next one
	p       *process // the one that runs, or the last one that did
	next    []string // what the environment of the next one has besides
	away    bool     // none is started for the moment
	starts  int
	peak    int64
	changed chan struct{} // closed and replaced when p changes
}

// fleet is the runners of one run.
type fleet struct {
	dir  string
	env  []string
	all  []*runner
	over context.Context //nolint:containedctx // the end of the fleet, which its supervisors share
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	exits []check.Exit
}

func newFleet(binary, dir string, env []string) *fleet {
	f := &fleet{dir: dir, env: env}
	f.over, f.end = context.WithCancel(context.Background())
	for i := range runners {
		f.all = append(f.all, &runner{fleet: f, binary: binary, name: fmt.Sprintf("r%d", i+1), changed: make(chan struct{})})
	}
	return f
}

// start starts all places; settings of each runner's own come from env.
func (f *fleet) start(env func(i int) []string) {
	for i, r := range f.all {
		own := env(i)
		f.wg.Go(func() { r.supervise(own) })
	}
}

// supervise keeps a runner running until the fleet ends.
func (r *runner) supervise(own []string) {
	for r.fleet.over.Err() == nil {
		p, err := r.begin(own)
		if err != nil {
			_ = wait(r.fleet.over, time.Second)
			continue
		}
		<-p.done
		r.mu.Lock()
		r.peak = max(r.peak, p.measure())
		r.mu.Unlock()
		_ = wait(r.fleet.over, restartPause)
		for r.isAway() && wait(r.fleet.over, 10*time.Millisecond) == nil {
		}
	}
}

func (r *runner) isAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

func (r *runner) begin(own []string) (*process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fleet.over.Err() != nil {
		return nil, r.fleet.over.Err()
	}
	home := filepath.Join(r.fleet.dir, r.name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	env := append([]string{"HOME=" + home, "TMPDIR=" + home, "RUNNER_INSTANCE=" + r.name, "GOMAXPROCS=2"}, r.fleet.env...)
	env = append(append(env, own...), r.next...)
	r.next = nil
	p, err := start(r.name, home+".log", env, r.binary, "serve")
	if err != nil {
		return nil, err
	}
	p.expectedExit.Store(slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "DBRUNNER_CRASH_") }))
	r.p = p
	r.starts++
	close(r.changed)
	r.changed = make(chan struct{})
	return p, nil
}

// process is the one that runs now; it waits for one while there is none.
func (r *runner) process(ctx context.Context) *process {
	for {
		r.mu.Lock()
		p, changed := r.p, r.changed
		r.mu.Unlock()
		if p != nil && !p.ended() {
			return p
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p
		}
	}
}

// kill ends the runner as a crash would; the next one has the environment besides.
func (r *runner) kill(ctx context.Context, next ...string) {
	p := r.process(ctx)
	if p == nil {
		return
	}
	r.mu.Lock()
	r.next = next
	r.mu.Unlock()
	p.expectedExit.Store(true)
	p.kill()
}

// terminate ends the runner as a service manager would.
func (r *runner) terminate(ctx context.Context) {
	if p := r.process(ctx); p != nil {
		r.fleet.ended(p, p.end(exitGrace+10*time.Second))
	}
}

// replace has a service manager end the runner and start another binary.
func (r *runner) replace(ctx context.Context, binary string) {
	r.mu.Lock()
	r.binary = binary
	r.mu.Unlock()
	r.terminate(ctx)
}

// runs reports whether the next process of the runner is of a binary.
func (r *runner) runs(binary string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.binary == binary
}

// ended notes how a runner ended that was asked to, unless another nemesis killed it while it was about to, or the
// signal itself did: a process that has only just been started is ended so before it can listen to any.
func (f *fleet) ended(p *process, took time.Duration) {
	if p.code() < 0 && took <= exitGrace && (p.expectedExit.Load() || p.silent()) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exits = append(f.exits, check.Exit{Runner: p.name, Took: took, Grace: exitGrace, Code: p.code()})
}

// freeze stops the runner where it is for a time.
func (r *runner) freeze(ctx context.Context, d time.Duration) {
	p := r.process(ctx)
	if p == nil {
		return
	}
	p.signal(syscall.SIGSTOP)
	_ = wait(ctx, d)
	p.signal(syscall.SIGCONT)
}

// measure reads what the runners hold.
func (f *fleet) measure() {
	for _, r := range f.all {
		r.mu.Lock()
		if r.p != nil {
			r.peak = max(r.peak, r.p.measure())
		}
		r.mu.Unlock()
	}
}

// stop ends all runners in order, and notes how. It is called once, when all faults are over.
func (f *fleet) stop() {
	f.measure()
	f.end()
	var all sync.WaitGroup
	for _, r := range f.all {
		r.mu.Lock()
		p := r.p
		r.mu.Unlock()
		if p != nil && !p.ended() {
			all.Go(func() { f.ended(p, p.end(exitGrace+10*time.Second)) })
		}
	}
	all.Wait()
	f.wg.Wait()
}

// close kills what is left.
func (f *fleet) close() {
	f.end()
	for _, r := range f.all {
		r.mu.Lock()
		p := r.p
		r.mu.Unlock()
		if p != nil && !p.ended() {
			p.kill()
		}
	}
	f.wg.Wait()
}

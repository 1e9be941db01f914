package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus"
)

const waitHelp = `Wait until databases are healthy, as a prerequisite of a flow: query the runners repeatedly until all databases are healthy. The
command needs only NATS, no database login; permission to publish to dbrunner.api.health.<database> is enough. It also
waits while no runner is connected. Each change is reported on standard error.

Exit codes: 0 all databases are healthy; 1 the timeout expired (the unhealthy databases and reasons are listed) or NATS is
unavailable; 78 the command line is wrong.
` + clientHelp

type waitFlags struct {
	clientFlags
	timeout  time.Duration
	migrated bool
	accept   string
	json     bool
}

func newWait() *cobra.Command {
	f := &waitFlags{}
	cmd := &cobra.Command{
		Use:     "wait DATABASE...",
		Short:   "Wait until databases are healthy",
		Long:    waitHelp,
		Example: "  runner wait shop rpa_db --timeout 2m\n  runner wait shop --migrated --server nats://nats:4222\n  runner wait shop --accept degraded --json",
		Args:    arguments(1, math.MaxInt),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait")
	flags.BoolVar(&f.migrated, "migrated", false, "also wait until no migration is pending")
	flags.StringVar(&f.accept, "accept", string(contract.Healthy), "the worst verdict that will do: healthy or degraded")
	flags.BoolVar(&f.json, "json", false, "print JSON at the end")
	f.add(cmd)
	return cmd
}

// waited is how a database was found last.
type waited struct {
	Database string   `json:"database"`
	Ready    bool     `json:"ready"`
	Verdict  string   `json:"verdict,omitempty"` // empty: no answer yet
	Reasons  []string `json:"reasons"`
	Runner   string   `json:"runner,omitempty"`
	Seconds  float64  `json:"seconds"` // waited
}

func (w *waited) line() string {
	state := "not ready"
	if w.Ready {
		state = "ready"
	}
	if w.Verdict != "" && (w.Ready || w.Verdict != string(contract.Healthy)) { // else the reason is another
		state += " (" + w.Verdict + ")"
	}
	if len(w.Reasons) > 0 {
		state += ": " + strings.Join(w.Reasons, "; ")
	}
	return w.Database + ": " + state
}

func (f *waitFlags) run(cmd *cobra.Command, databases []string) error {
	for i, name := range databases {
		if !contract.ValidName(name) {
			return usage(errors.New("a database is 1 to 64 of A-Z a-z 0-9 _ -"))
		}
		if slices.Contains(databases[:i], name) {
			return usage(fmt.Errorf("the database %s is duplicate", name))
		}
	}
	switch {
	case f.timeout <= 0:
		return usage(errors.New("--timeout must be above zero"))
	case f.accept != string(contract.Healthy) && f.accept != string(contract.Degraded):
		return usage(errors.New("--accept must be healthy or degraded"))
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	s, err := f.reach(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer s.close(ctx)
	found := f.await(ctx, s, databases, cmd.ErrOrStderr())
	if f.json {
		if err := printJSON(cmd.OutOrStdout(), found); err != nil {
			return err
		}
	}
	var missing []string
	for _, w := range found {
		if !w.Ready {
			missing = append(missing, w.Database) // the reason was printed when it was found
		}
	}
	switch {
	case len(missing) > 0 && cmd.Context().Err() != nil: // a signal, long before the timeout
		return fmt.Errorf("%w; not ready: %s", context.Cause(cmd.Context()), strings.Join(missing, ", "))
	case len(missing) > 0:
		return fmt.Errorf("not ready within %s: %s", f.timeout, strings.Join(missing, ", "))
	}
	return nil
}

// The pauses between two questions, which double.
const (
	waitFirst = 200 * time.Millisecond
	waitMost  = 3 * time.Second
	waitOne   = 10 * time.Second // for one answer
)

// reach connects to NATS, which may be about to start as well. An error that does not go away ends it immediately.
func (f *waitFlags) reach(ctx context.Context, w io.Writer) (*session, error) {
	printed := ""
	for pause := waitFirst; ; pause = min(2*pause, waitMost) {
		s, err := f.connect(ctx, true)
		if err == nil {
			return s, nil
		}
		if _, waits := errors.AsType[*bus.ConnectError](err); !waits {
			return nil, err
		}
		if printed != err.Error() {
			printed = err.Error()
			_, _ = fmt.Fprintln(w, printed)
		}
		if !sleep(ctx, pause) {
			return nil, err
		}
	}
}

// sleep reports whether the time went by before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// await asks for all databases at the same time until each is ready or ctx ends.
func (f *waitFlags) await(ctx context.Context, s *session, databases []string, w io.Writer) []*waited {
	var mu sync.Mutex
	printLine := func(line string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(w, line)
	}
	started := time.Now()
	found := make([]*waited, len(databases))
	var asking sync.WaitGroup
	for i, name := range databases {
		asking.Go(func() {
			last := &waited{Database: name, Reasons: []string{}}
			for pause := waitFirst; ; pause = min(2*pause, waitMost) {
				now := f.look(ctx, s, name)
				if ctx.Err() == nil || now.Ready || last.Verdict == "" && len(last.Reasons) == 0 {
					if now.line() != last.line() {
						printLine(now.line())
					}
					last = now
				}
				last.Seconds = time.Since(started).Seconds()
				if last.Ready || !sleep(ctx, pause) {
					found[i] = last
					return
				}
			}
		})
	}
	asking.Wait()
	return found
}

// look asks once.
func (f *waitFlags) look(ctx context.Context, s *session, name string) *waited {
	ctx, cancel := context.WithTimeout(ctx, waitOne)
	defer cancel()
	out := &waited{Database: name, Reasons: []string{}}
	health, err := s.Health(ctx, name)
	if err == nil && health.Health == nil {
		err = errors.New("the answer has no health")
	}
	if err != nil {
		reason, denied := err.Error(), s.conn.State().Denied
		refused, answered := errors.AsType[*client.ServiceError](err)
		switch late := errors.Is(err, context.DeadlineExceeded); {
		case errors.Is(err, client.ErrNoService):
			reason = "no runner is there yet"
		case late && len(denied) > 0:
			reason = "no answer; " + denied[len(denied)-1]
		case late:
			reason = "no answer in time"
		case answered:
			reason = refused.Message
		}
		out.Reasons = append(out.Reasons, reason)
		return out
	}
	out.Runner, out.Verdict, out.Reasons = health.Runner, string(health.Verdict), append(out.Reasons, health.Reasons...)
	out.Ready = health.Verdict == contract.Healthy || health.Verdict == contract.Degraded && f.accept == string(contract.Degraded)
	if !f.migrated {
		return out
	}
	reason := ""
	switch m := health.Checks.Migrations; {
	case m == nil:
		reason = "no runner reports migrations of " + name + ": it has no folder of migrations, or the database did not answer; " +
			"leave out --migrated to wait for health only"
	case m.Dirty || m.Problem != "":
		reason = "its migrations are not in order"
	case m.Pending > 0:
		reason = fmt.Sprintf("%d migrations are pending", m.Pending)
	}
	if reason != "" {
		out.Ready = false
		out.Reasons = append(out.Reasons, reason)
	}
	return out
}

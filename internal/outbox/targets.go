package outbox

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// How often the retention of a target's ledger is asked for.
const (
	askEvery   = time.Minute
	askAgain   = 2 * time.Second // while it is not known
	askTimeout = 5 * time.Second
)

// reportAfter is how long a target may refuse rows before that is reported: a leader may be elected, a runner restarted.
const reportAfter = 10 * time.Second

// targets is what a relay knows of its targets. It is safe for concurrent use.
type targets struct {
	mu        sync.Mutex
	list      map[string]*target
	databases map[string]*database
}

// target is one target that may refuse rows.
type target struct {
	database string
	pause    time.Duration // after the last refusal; 0: it accepts
	until    time.Time     // no row is claimed for it before
	since    time.Time     // of the first refusal
	why      string
}

// database is the database of one or more targets.
type database struct {
	retention time.Duration // of its ledger; 0: not known
	why       string        // it is not known
	since     time.Time     // it is not known
}

func newTargets(list []Target) *targets {
	t := &targets{list: map[string]*target{}, databases: map[string]*database{}}
	for _, one := range list {
		t.list[one.Text] = &target{database: one.Database}
	}
	for _, name := range names(list) {
		t.databases[name] = &database{why: "not asked yet", since: time.Now()}
	}
	return t
}

// run asks for the retention of each database's ledger until ctx ends. What is known stays known while no runner answers: rows
// that are published meanwhile run when there are runners again.
func (t *targets) run(ctx context.Context, publisher Publisher) error {
	asked := map[string]time.Time{}
	for {
		if publisher.Ready(ctx) != nil {
			return nil
		}
		for name, d := range t.databases {
			if every := t.askEvery(d); time.Since(asked[name]) >= every || asked[name].IsZero() {
				asked[name] = time.Now()
				bounded, cancel := context.WithTimeout(ctx, askTimeout)
				retention, err := publisher.Retention(bounded, name)
				cancel()
				t.learn(d, retention, err)
			}
		}
		if !pause(ctx, askAgain/4) {
			return nil
		}
	}
}

func (t *targets) askEvery(d *database) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.retention == 0 {
		return askAgain
	}
	return askEvery
}

func (t *targets) learn(d *database, retention time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && retention > 0:
		d.retention, d.why, d.since = retention, "", time.Time{}
	case err == nil:
		if d.retention > 0 || d.since.IsZero() {
			d.since = time.Now()
		}
		d.retention, d.why = 0, "it has no ledger, so that a job could take effect twice; set ledger.mode there, or remove its targets"
	case d.retention == 0:
		d.why = "no runner of it has answered yet (" + err.Error() + ")"
	}
}

// database returns the database of a target, and whether the target is configured.
func (t *targets) database(text string) (string, bool) {
	one, ok := t.list[text] // never changed
	if !ok {
		return "", false
	}
	return one.database, true
}

// retention returns how long the ledger of a database keeps a row; 0: not known.
func (t *targets) retention(name string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.databases[name]; d != nil {
		return d.retention
	}
	return 0
}

// held returns the targets for which no row is to be claimed now.
func (t *targets) held(now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for text, one := range t.list {
		if t.databases[one.database].retention == 0 || now.Before(one.until) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}

// hold notes a refusal and returns how long the target's rows wait.
func (t *targets) hold(text string, why error) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, now := t.list[text], time.Now()
	if one.pause == 0 {
		one.since = now
	}
	one.pause = min(max(2*one.pause, firstPause), longestPause)
	one.until, one.why = now.Add(one.pause), why.Error()
	return one.pause
}

// accept notes that a target accepts rows.
func (t *targets) accept(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.list[text]
	one.pause, one.until, one.since, one.why = 0, time.Time{}, time.Time{}, ""
}

// trouble describes the targets whose rows have waited for a while, for people; empty: there are none.
func (t *targets) trouble(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var texts []string
	for name, d := range t.databases {
		if d.retention == 0 && now.Sub(d.since) >= reportAfter {
			texts = append(texts, "rows for database "+name+" wait: "+d.why)
		}
	}
	for text, one := range t.list {
		if one.pause > 0 && now.Sub(one.since) >= reportAfter {
			texts = append(texts, "rows for "+text+" wait: "+one.why)
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, "; ")
}

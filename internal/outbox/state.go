package outbox

import (
	"context"
	"fmt"
	"strings"
	"time"

	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/report"
)

// countEvery is how often the rows are counted.
const countEvery = 5 * time.Second

// count counts the rows until ctx ends. An error shows where rows are claimed.
func (r *Relay) count(ctx context.Context) error {
	for {
		var counted outboxtable.Count
		err := r.call(ctx, func(ctx context.Context) (err error) {
			counted, err = r.opts.Source.Count(ctx)
			return err
		})
		if err == nil {
			r.mu.Lock()
			r.counted, r.at = counted, time.Now()
			r.mu.Unlock()
		}
		if !pause(ctx, countEvery) {
			return nil
		}
	}
}

// State returns how the outbox is.
func (r *Relay) State() report.Outbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := report.Outbox{
		Relayed: r.relayed.Load(), Counted: !r.at.IsZero(), Waiting: r.counted.Waiting, Failed: r.counted.Failed, Oldest: r.counted.Oldest,
	}
	var texts []string
	if r.counted.Failed > 0 {
		more := ""
		if r.counted.Failed == outboxtable.MaxCount {
			more = " or more"
		}
		texts = append(texts, fmt.Sprintf("%d%s rows have an error; runner outbox ls %s shows them", r.counted.Failed, more, r.opts.Database))
	}
	if r.failing != "" && time.Since(r.since) >= reportAfter {
		s.Failing = true
		texts = append(texts, r.failing)
	}
	if text := r.targets.trouble(time.Now()); text != "" {
		s.Failing = true
		texts = append(texts, text)
	}
	s.Trouble = strings.Join(texts, "; ")
	return s
}

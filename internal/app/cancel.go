package app

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
)

// watchCancellations reads requests to cancel, and stops held work that they are about, until ctx ends.
func (r *running) watchCancellations(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return r.cancellations.Run(ctx) })
	group.Go(func() error {
		for {
			select {
			case <-r.cancellations.Changed():
				r.cancelHeld(r.cancellations.Added())
			case <-ctx.Done():
				return nil
			}
		}
	})
	return group.Wait()
}

// cancelHeld stops the work on held jobs of some databases whose end was asked for. Many concurrent requests are one look at
// what is held.
func (r *running) cancelHeld(names []string) {
	for _, d := range r.databases {
		if !slices.Contains(names, d.Name) {
			continue
		}
		for _, l := range d.lanes {
			l.Cancel(d.executor.Canceled)
		}
	}
}

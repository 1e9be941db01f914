package app

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
)

// watchCancellations reads requests to cancel, and stops work in flight that they are about, until ctx ends.
func (r *running) watchCancellations(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() error { return r.cancellations.Run(ctx) })
	group.Go(func() error {
		for {
			select {
			case <-r.cancellations.Changed():
				// Many concurrent requests are one scan of what is in flight.
				names := r.cancellations.Added()
				for _, d := range r.databases {
					if !slices.Contains(names, d.Name) {
						continue
					}
					for _, l := range d.lanes {
						l.Cancel(d.executor.Canceled)
					}
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	return group.Wait()
}

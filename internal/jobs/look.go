package jobs

import "context"

// look is the reading of a stored result while the statements run, awaited before COMMIT: no effect may meet a
// result that another message has left under its id. A nil look has found nothing.
type look struct {
	cancel   context.CancelFunc
	done     chan struct{}
	existing []byte
	err      error
}

// startLook starts reading. Whoever starts a look stops it, which waits for its end.
func (r *run) startLook(ctx context.Context) *look {
	ctx, cancel := context.WithCancel(ctx)
	l := &look{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.existing, l.err = r.glance(ctx)
	}()
	return l
}

// glance looks for a result that another message has left under the job's id. It may miss one that was stored in this
// moment: storing our own finds it then, and the answer goes aside. What it finds is read from where it is certain.
func (r *run) glance(ctx context.Context) ([]byte, error) {
	found, err := r.e.opts.Results.HasResult(ctx, r.id)
	if err == nil && !found {
		return nil, nil
	}
	return r.storedResult(ctx)
}

// wait returns what was found, or the context's error: the job's time limit bounds it.
func (l *look) wait(ctx context.Context) ([]byte, error) {
	if l == nil {
		return nil, nil
	}
	select {
	case <-l.done:
		return l.existing, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *look) stop() {
	if l == nil {
		return
	}
	l.cancel()
	<-l.done
}

// lookError says that the stored results could not be read in time. The transaction is rolled back, and the
// execution may be repeated.
type lookError struct{ err error }

func (e *lookError) Error() string { return "read the stored result: " + e.err.Error() }
func (e *lookError) Unwrap() error { return e.err }

// takenError carries the result that another message left under the job's id.
type takenError struct{ existing []byte }

func (e *takenError) Error() string { return "the id has a stored result already" }

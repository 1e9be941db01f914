package delivery

import "context"

// resultLookup is the reading of a stored result while the statements run, awaited before COMMIT: no effect may meet a
// result that another message has left under its id. A nil look has found nothing.
type resultLookup struct {
	cancel   context.CancelFunc
	done     chan struct{}
	existing []byte
	err      error
}

// startResultLookup starts reading. The caller stops it, which waits for its end.
func (r *run) startResultLookup(ctx context.Context) *resultLookup {
	ctx, cancel := context.WithCancel(ctx)
	l := &resultLookup{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.existing, l.err = r.lookupResult(ctx)
	}()
	return l
}

// lookupResult looks for a result that another message has left under the job's id. It may miss one that was stored in this
// moment: storing our own finds it then, and the answer goes aside. What it finds is read from where it is certain.
func (r *run) lookupResult(ctx context.Context) ([]byte, error) {
	found, err := r.e.opts.Results.HasResult(ctx, r.id)
	if err == nil && !found {
		return nil, nil
	}
	return r.storedResult(ctx)
}

// wait returns what was found, or the context's error: the job's time limit bounds it.
func (l *resultLookup) wait(ctx context.Context) ([]byte, error) {
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

func (l *resultLookup) stop() {
	if l == nil {
		return
	}
	l.cancel()
	<-l.done
}

// lookupError is returned when the stored results could not be read in time. The transaction is rolled back, and the
// execution may be repeated.
type lookupError struct{ err error }

func (e *lookupError) Error() string { return "read the stored result: " + e.err.Error() }
func (e *lookupError) Unwrap() error { return e.err }

// takenError carries the result that another message left under the job's id.
type takenError struct{ existing []byte }

func (e *takenError) Error() string { return "the id has a stored result already" }

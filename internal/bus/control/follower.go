package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/bus"
)

// Between two attempts to read a bucket.
const (
	retryAtMost = time.Second      // after one that failed
	retryDenied = 10 * time.Second // after one that the server's permissions refused
)

// How long one attempt to read a bucket may take. A leader that loses the other servers takes a request and never answers it: an
// attempt is given up soon, and the next one reaches another leader.
const (
	readLimit = 5 * time.Second // at most, and as long as the bucket was never read: it may have to be created
	readFirst = time.Second     // of the first attempt at a bucket that was read before; each further one has twice as long
)

// limitOf is how long an attempt may take, after so many that failed.
func limitOf(readBefore bool, failed int) time.Duration {
	if !readBefore {
		return readLimit
	}
	return min(readLimit, readFirst<<min(failed, 3))
}

var errNoLink = errors.New("NATS is not connected")

// follower reads what comes into a bucket, and knows whether all that it keeps has been read over the link that stands.
type follower struct {
	conn *bus.Conn
	what string        // that is read
	news chan struct{} // a token: read immediately

	mu    sync.Mutex
	known uint64        // renewals of the link, and one, when everything had been read last; 0: never
	read  chan struct{} // closed at the next time that everything has been read
}

func newFollower(conn *bus.Conn, what string) *follower {
	return &follower{conn: conn, what: what, news: make(chan struct{}, 1), read: make(chan struct{})}
}

// follow reads a bucket until ctx ends: immediately, with each announcement on a subject, with each change of the link and every so often,
// as announcements may be lost. poll makes an attempt, after so many that failed in a row. It returns nil, or why it cannot
// subscribe.
func (f *follower) follow(ctx context.Context, subject string, every time.Duration, poll func(ctx context.Context, failed int) error) error {
	sub, err := f.conn.NATS().Subscribe(subject, func(*nats.Msg) { signal(f.news) })
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", f.what, bus.ClosedAs(err))
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is closed
	changes, stop := f.conn.WatchLink()
	defer stop()
	for failed := 0; ; {
		wait := every
		switch err := poll(ctx, failed); {
		case err == nil, errors.Is(err, errNoLink): // the link's return is a change
			failed = 0
		case errors.Is(err, bus.ErrDenied):
			wait = retryDenied
		default:
			wait = bus.Backoff(failed, 50*time.Millisecond, retryAtMost)
			failed++
		}
		if await(ctx, f.news, changes, wait) != nil {
			return nil
		}
	}
}

// await waits for an announcement, a change of the link or the end of a time; an error: ctx has ended.
func await(ctx context.Context, news, changes <-chan struct{}, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-news:
	case <-changes:
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// signal leaves a token in a channel for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// Ready waits until all that was kept before has been read.
func (f *follower) Ready(ctx context.Context) error {
	for {
		renewals, connected := f.conn.Link()
		f.mu.Lock()
		known, read := f.known, f.read
		f.mu.Unlock()
		if connected && known > renewals {
			return nil
		}
		select {
		case <-read:
		case <-ctx.Done():
			return fmt.Errorf("read %s: %w", f.what, context.Cause(ctx))
		}
	}
}

// Known reports whether all that was kept before has been read over the link that stands.
func (f *follower) Known() bool {
	renewals, connected := f.conn.Link()
	f.mu.Lock()
	defer f.mu.Unlock()
	return connected && f.known > renewals
}

// caughtUp notes that everything has been read over a link that was renewed that often.
func (f *follower) caughtUp(renewals uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = renewals + 1
	close(f.read)
	f.read = make(chan struct{})
}

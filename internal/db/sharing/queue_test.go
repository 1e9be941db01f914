package sharing_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/sharing"
)

// runner keeps what a queue asks of an engine. One group at a time has its connection.
type runner struct {
	connection chan struct{}

	mu     sync.Mutex
	groups []int // sizes
	alone  int
	leaves bool // the members of groups are left to be run by themselves
}

func newRunner() *runner { return &runner{connection: make(chan struct{}, 1)} }

func (r *runner) Alone(context.Context, *sharing.Member) ([]db.ResultSet, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alone++
	return nil, nil
}

func (r *runner) Lead(ctx context.Context, _ *sharing.Member, gather func(func()) []*sharing.Member) error {
	select {
	case r.connection <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.connection }()
	members := gather(func() {})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.groups = append(r.groups, len(members))
	if !r.leaves {
		for _, m := range members {
			m.Finish(nil, nil)
		}
	}
	return nil
}

func transact(ctx context.Context, q *sharing.Queue) error {
	_, err := q.Transact(ctx, &db.Call{}, &db.Transaction{}, db.RowOptions{}, nil)
	return err
}

func TestOneAloneRunsImmediately(t *testing.T) {
	t.Parallel()
	r := newRunner()
	q := sharing.NewQueue(1, r)
	for range 3 {
		require.NoError(t, transact(t.Context(), q))
	}
	require.Equal(t, []int{1, 1, 1}, r.groups)
}

// waiters starts transactions while the connection is taken, and waits until they wait.
func waiters(ctx context.Context, t *testing.T, q *sharing.Queue, n int) (ended func() []error) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = transact(ctx, q) })
	}
	require.Eventually(t, func() bool { waiting, _ := q.Longest(); return waiting == n-1 }, time.Minute, time.Millisecond)
	return func() []error { all.Wait(); return errs }
}

func TestGroupsHaveUpToSixteen(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		r := newRunner()
		r.leaves = leaves
		q := sharing.NewQueue(1, r)
		r.connection <- struct{}{}
		ended := waiters(t.Context(), t, q, 40)
		<-r.connection
		for _, err := range ended() {
			require.NoError(t, err)
		}
		require.Equal(t, []int{16, 16, 8}, r.groups)
		if leaves {
			require.Equal(t, 40, r.alone, "what a group leaves is run by itself")
		}
	}
}

func TestGivenUpWhileWaiting(t *testing.T) {
	t.Parallel()
	r := newRunner()
	q := sharing.NewQueue(1, r)
	r.connection <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := waiters(ctx, t, q, 5)
	cancel()
	for _, err := range ended() {
		require.Error(t, err)
	}
	<-r.connection
	waiting, _ := q.Longest()
	require.Zero(t, waiting)
	require.NoError(t, transact(t.Context(), q), "the next one leads")
	require.Equal(t, []int{1}, r.groups)
}

type panicking struct{ *runner }

func (panicking) Lead(context.Context, *sharing.Member, func(func()) []*sharing.Member) error {
	panic(errors.New("boom"))
}

func TestPanicEndsTheLead(t *testing.T) {
	t.Parallel()
	q := sharing.NewQueue(1, panicking{newRunner()})
	for range 2 {
		require.Panics(t, func() { _ = transact(t.Context(), q) })
	}
}

package delivery_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/delivery"
	"dbrunner/internal/health"
	"dbrunner/internal/report"
)

// hanging is a database that answers nothing until the check is given up.
type hanging struct{}

func (hanging) Check(ctx context.Context) (db.CheckResult, error) {
	<-ctx.Done()
	return db.CheckResult{}, db.Errorf(db.ClassCanceled, contract.CodeCanceled, "given up").Because(ctx.Err())
}

func (hanging) Stats() report.Pool { return report.Pool{} }

// A job of this kind ends well whatever it finds, and its time limit is the smaller of the two.
func TestHealthJobs(t *testing.T) {
	t.Parallel()
	s := setup(t)
	e, err := delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r1", Database: s.database, Policy: &s.policy, Results: s,
		Health:  health.NewChecker(health.Options{Database: hanging{}, Timeout: time.Minute}),
		MaxBody: 1 << 20, MaxResult: 1 << 20,
	})
	require.NoError(t, err)
	started := time.Now()
	out := e.Run(t.Context(), deliver("health", `{"id":"h1","timeout":"100ms"}`, 1, 1), nil)
	require.Less(t, time.Since(started), 10*time.Second)
	require.Equal(t, delivery.Settle, out.Action)
	require.Equal(t, contract.Succeeded, out.Status)
	require.Regexp(t, `,"verdict":"unhealthy","reasons":\["connection: no answer within \d+ms"\],"checks":{`, string(out.Store.Body))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, delivery.Undecided, e.Run(ctx, deliver("health", `{"id":"h2"}`, 1, 1), nil).Action, "it is no longer wanted")
	refused := e.Run(t.Context(), deliver("health", `{"id":"h3"}`, 1, 1), func() error { return errors.New("the runner stops") })
	require.Equal(t, delivery.Undecided, refused.Action)
	late := e.Run(t.Context(), deliver("health", `{"id":"h4","expires_at":"2020-01-01T00:00:00Z"}`, 1, 1), nil)
	require.Equal(t, contract.Expired, late.Status)
	require.NotContains(t, strings.ToLower(string(late.Store.Body)), "verdict")
}

// A database without a checker fails health jobs with a clear answer instead of a defect.
func TestHealthJobWithoutAChecker(t *testing.T) {
	t.Parallel()
	s := setup(t)
	out := s.run(deliver("health", `{"id":"h1"}`, 1, 1))
	require.Equal(t, contract.Failed, out.Status)
	require.Equal(t, string(contract.CodeNotSupported), out.Code)
}

package delivery_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/report"
)

// steps records the calls of a delivery's trace.
type steps struct {
	seen   []report.Step
	failed []string
}

func (s *steps) Step(step report.Step) { s.seen = append(s.seen, step) }
func (s *steps) Failed(code string)    { s.failed = append(s.failed, code) }

// A trace records each step once per attempt, and which of them failed.
func TestSteps(t *testing.T) {
	t.Parallel()
	const none, decode, acquire, execute = report.StepNone, report.StepDecode, report.StepAcquire, report.StepExecute
	for name, c := range map[string]struct {
		body   string
		before []func() error
		want   []report.Step
		failed []string
	}{
		"succeeds": {body: transaction("a1", effect("a")), want: []report.Step{decode, none, acquire, execute, none}},
		"rejected": {body: `{"id":"a1"}`, want: []report.Step{decode, none}},
		"repeated": {
			body: transaction("a1", effect("a")), failed: []string{"deadlock"},
			before: []func() error{classed(db.ClassTransient, contract.CodeDeadlock)}, // without a connection
			want:   []report.Step{decode, none, acquire, none, acquire, execute, none},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			s.faults.before = c.before
			d := deliver("transaction", c.body, 1, 1)
			trace := &steps{}
			d.Trace = trace
			s.run(d)
			require.Equal(t, c.want, trace.seen)
			require.Equal(t, c.failed, trace.failed)
		})
	}
}

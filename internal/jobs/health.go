package jobs

import (
	"context"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// HealthChecker judges a database; see health.Checker.
type HealthChecker interface {
	Check(ctx context.Context, checks ...string) *contract.Health
}

// healthCheck is the work of kind health: a look at the database, of which every outcome is an answer.
type healthCheck struct {
	checks []string // that are wanted, in the order of HealthChecks; empty: all
}

// decodeHealth reads checks.
func decodeHealth(r *reader, at []int) work {
	h := &healthCheck{}
	list := at[0]
	if list == 0 {
		return h
	}
	known := contract.HealthChecks()
	what := "a list of " + strings.Join(known, ", ")
	if r.Kind(list) != jsontext.Array {
		r.reject(list, contract.CodeInvalidValue, "must be "+what+r.hintNull(list))
		return h
	}
	if r.Len(list) == 0 {
		r.reject(list, contract.CodeInvalidValue, "must be "+what+"; leave the key out for all of them")
	}
	var wanted []string
	for i := list + 1; i < r.After(list); i = r.After(i) {
		if word, ok := r.isOneOf(i, known...); ok {
			wanted = append(wanted, known[word])
		}
	}
	h.checks = slices.DeleteFunc(known, func(check string) bool { return !slices.Contains(wanted, check) })
	return h
}

func (h *healthCheck) size() int { return 0 }

func (h *healthCheck) hash(dst []byte) []byte {
	for _, check := range h.checks {
		dst = appendSized(dst, check)
	}
	return dst
}

func (h *healthCheck) run(ctx context.Context, x *Execution) (Answer, error) {
	if x.Call.Begin != nil {
		if err := x.Call.Begin(); err != nil {
			return Answer{}, err
		}
	}
	if x.Health == nil {
		return Answer{}, db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "health checks of this database are not possible here")
	}
	bounded, cancel := context.WithTimeout(ctx, max(x.Call.Timeout, time.Millisecond))
	defer cancel()
	found := x.Health.Check(bounded, h.checks...)
	if ctx.Err() != nil { // an abandoned check proves nothing about the database
		return Answer{}, context.Cause(ctx)
	}
	return Answer{Answer: contract.Answer{Health: found}, Filled: true, Size: healthSize}, nil
}

// healthSize is about what a health check takes in a result, bytes.
const healthSize = 1 << 10

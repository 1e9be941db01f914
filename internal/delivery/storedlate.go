package delivery

import (
	"time"

	"dbrunner/contract"
)

// takeStoredLate takes over a message that its stream stored after the time in its header, and reports whether it is one. An
// earlier copy of it may have run, and its ledger row may be gone: so it does not run, and it takes neither the job's id nor a
// ledger row. Header and stream time are the same at every delivery, so that no delivery decides otherwise. A header that
// cannot be read is treated as one whose time has passed.
func (r *run) takeStoredLate() bool {
	header := r.d.Headers[contract.HeaderStoredBy]
	if len(header) == 0 {
		return false
	}
	limit, err := time.Parse(time.RFC3339Nano, header[0])
	if err == nil && len(header) == 1 && !r.d.Timestamp.After(limit) {
		return false
	}
	r.scanUndecoded()
	r.ownID, r.id, r.derived = r.id, r.d.DerivedID(), true
	r.verdict = verdict{storedLate, contract.Expired, storedLateError(err == nil && len(header) == 1)}
	return true
}

package schedule

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/cron"
	"dbrunner/internal/jsontext"
)

// Rules are what the runners of a database demand of its schedules.
type Rules struct {
	Zones *cron.Zones
	// Check returns why the database's runners would reject a job; nil: they would not. If it is nil, jobs are not checked.
	Check func(key contract.ScheduleKey, body []byte) error
	// Retention is how long the ledger keeps ids; 0: there is no ledger, or it is not known.
	Retention time.Duration
}

// retentionMargin is how much sooner than the ledger forgets a job's id a tick is too late: a runner that wakes after that long
// publishes a job that has expired.
const retentionMargin = time.Hour

// Definition is a record that can be used.
type Definition struct {
	Key    contract.ScheduleKey
	Record *contract.Schedule
	Job    contract.ScheduleJob
	Hash   string // of the job

	members []member
	zones   *cron.Zones
}

// member is one key of a job's body with its value, both as JSON texts.
type member struct{ key, value string }

// jobHashDigits are the digits of a job's hash that a state keeps.
const jobHashDigits = 32

// Read reads the record of a key, which was stored at a time. The error joins all that is wrong with it.
func (r *Rules) Read(key contract.ScheduleKey, value []byte, stored time.Time) (*Definition, error) {
	record, job, err := contract.ReadSchedule(value)
	if record == nil {
		return nil, err
	}
	errs := []error{err, r.checkTimes(record, stored), r.checkLateness(record)}
	d := &Definition{Key: key, Record: record, Job: job, zones: r.Zones}
	if err == nil {
		d.readJob()
		errs = append(errs, r.checkJob(d, stored))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, nil
}

func (r *Rules) checkTimes(record *contract.Schedule, stored time.Time) error {
	zone, err := r.Zones.Load(record.TimeZone)
	if err != nil && record.Cron != "" {
		if _, cronErr := cron.Parse(record.Cron, time.UTC); cronErr != nil { // both are reported
			err = errors.Join(err, fmt.Errorf("cron: %w", cronErr))
		}
	}
	if err != nil {
		return err
	}
	if record.Interval() > cron.Horizon {
		return errors.New("every is longer than eight years")
	}
	if record.Cron == "" {
		return nil
	}
	times, err := cron.Parse(record.Cron, zone)
	if err != nil {
		return fmt.Errorf("cron: %w", err)
	}
	if _, found := times.Next(stored); !found {
		return errors.New("cron: never fires within eight years")
	}
	return nil
}

func (r *Rules) checkLateness(record *contract.Schedule) error {
	if r.Retention == 0 || record.Late()+retentionMargin < r.Retention {
		return nil
	}
	return fmt.Errorf("catch_up, with one hour more, is not below the retention of the database's ledger: write at most %s, or raise ledger.retention",
		max(r.Retention-retentionMargin-time.Second, 0))
}

func (r *Rules) checkJob(d *Definition, stored time.Time) error {
	if r.Check == nil {
		return nil
	}
	var faults []error
	for _, line := range lines(r.Check(d.Key, d.Body(d.JobID(stored), stored.Add(time.Hour)))) {
		faults = append(faults, errors.New("job: "+line))
	}
	return errors.Join(faults...)
}

// readJob takes over the members of the job's body that stay as they are, and its hash.
func (d *Definition) readJob() {
	var t jsontext.Tape
	if t.Read(d.Record.Job, 0, 0) != nil {
		return // not reached: it was part of a text that was read
	}
	sum := sha256.Sum256(t.AppendCanonical([]byte("dbrunner scheduled job 1 "), 0))
	d.Hash = hex.EncodeToString(sum[:])[:jobHashDigits]
	for at := 1; at < t.Size(); {
		key, value := at, at+1
		at = t.After(value)
		if name := t.Str(key); name == "id" || name == "expires_in" {
			continue
		}
		text := t.Raw(value)
		if t.Kind(value) == jsontext.String {
			text = `"` + text + `"`
		}
		d.members = append(d.members, member{`"` + t.Raw(key) + `"`, text})
	}
}

// JobID returns the id of the job of a tick.
func (d *Definition) JobID(tick time.Time) string {
	if d.Job.ID != "" {
		return d.Job.ID
	}
	return d.Key.TickID(tick)
}

// Body returns the body of a job with an id, which may start until a time.
func (d *Definition) Body(id string, expiresAt time.Time) []byte {
	body := []byte(`{"id":"` + id + `","expires_at":"` + expiresAt.UTC().Format(time.RFC3339) + `"`)
	for _, m := range d.members {
		body = append(append(append(append(body, ','), m.key...), ':'), m.value...)
	}
	return append(body, '}')
}

// SameAs reports whether two records say the same, however they are written.
func SameAs(a, b []byte) bool {
	var x, y jsontext.Tape
	if x.Read(a, 0, 0) != nil || y.Read(b, 0, 0) != nil {
		return false
	}
	return string(x.AppendCanonical(nil, 0)) == string(y.AppendCanonical(nil, 0))
}

// Source returns the source of a record, also of one that cannot be used.
func Source(value []byte) string {
	var record struct {
		Source string `json:"source"`
	}
	_ = json.Unmarshal(value, &record) // none, then
	return record.Source
}

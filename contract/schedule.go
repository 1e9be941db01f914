package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"dbrunner/internal/jsontext"
)

// Bounds of the texts in the record of a schedule, in characters, and of the record, in bytes.
const (
	MaxScheduleText   = 1000
	MaxScheduleSource = 256
	MaxScheduleRecord = 64 << 10
)

// What happens at a tick while the job of the tick before has not finished.
const (
	OverlapSkip  = "skip"
	OverlapAllow = "allow"
)

const (
	minScheduleEvery   = time.Second
	defaultCatchUp     = 24 * time.Hour
	minScheduleExpiry  = time.Minute
	maxScheduleDepth   = 64
	maxScheduleValues  = 50_000
	scheduleNeedsTimes = "write one of cron, every and at"
)

// Schedule is the record of a schedule: when a job is published, and which one. It has exactly one of cron, every and at.
type Schedule struct {
	Cron        string          `json:"cron,omitempty"`      // five fields, or a word such as @daily
	Every       string          `json:"every,omitempty"`     // a duration of whole seconds, from the time of the record on
	At          *time.Time      `json:"at,omitempty"`        // once, rounded up to a second
	TimeZone    string          `json:"time_zone,omitempty"` // of cron, by its IANA name; missing: UTC
	Job         json.RawMessage `json:"job"`                 // the body of the job
	CatchUp     string          `json:"catch_up,omitempty"`  // a duration: how late a tick may be; missing: 24h
	Overlap     string          `json:"overlap,omitempty"`   // while the job of the tick before has not finished; missing: skip
	Description string          `json:"description,omitempty"`
	Source      string          `json:"source,omitempty"` // where the schedule is kept, as its owner calls it
}

// Times returns when the schedule fires, for people.
func (s *Schedule) Times() string {
	switch {
	case s.Cron != "" && s.TimeZone != "":
		return s.Cron + " (" + s.TimeZone + ")"
	case s.Cron != "":
		return s.Cron
	case s.At != nil:
		return "at " + s.At.UTC().Format(time.RFC3339)
	}
	return "every " + s.Every
}

// Interval returns the duration of every; 0: it has none.
func (s *Schedule) Interval() time.Duration { return durationOf(s.Every) }

// Late returns how late a tick may be.
func (s *Schedule) Late() time.Duration {
	if s.CatchUp == "" {
		return defaultCatchUp
	}
	return durationOf(s.CatchUp)
}

// durationOf reads a duration that was checked; 0 if there is none.
func durationOf(text string) time.Duration {
	d, _ := time.ParseDuration(text) // 0 with an error
	return d
}

// ScheduleJob is the part of a scheduled job's body that its schedule depends on.
type ScheduleJob struct {
	ID        string        // empty: each tick has one of its own
	ExpiresIn time.Duration // from the tick; 0: as long as the tick may be late
}

// EncodeSchedule returns a record, or all that is wrong with it.
func EncodeSchedule(s *Schedule) ([]byte, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the schedule: %w", err)
	}
	_, _, err = ReadSchedule(value)
	return value, err
}

// ReadSchedule reads a record. The error joins all that is wrong with it, as far as the record alone shows it: whether cron and
// time_zone mean anything, and whether the job is valid, is for others to judge.
func ReadSchedule(value []byte) (*Schedule, ScheduleJob, error) {
	var r scheduleReader
	if len(value) > MaxScheduleRecord {
		return nil, r.job, fmt.Errorf("larger than %d bytes", MaxScheduleRecord)
	}
	if err := r.tape.Read(value, maxScheduleDepth, maxScheduleValues); err != nil {
		return nil, r.job, fmt.Errorf("not valid JSON: %w", err)
	}
	if r.tape.Kind(0) != jsontext.Object {
		return nil, r.job, errors.New(`not a JSON object; write {"cron": "0 3 * * *", "job": {…}}`)
	}
	r.members(0, "", r.record)
	r.whole()
	return &r.schedule, r.job, errors.Join(r.errs...)
}

// scheduleReader reads a record and notes all that is wrong with it.
type scheduleReader struct {
	tape     jsontext.Tape
	schedule Schedule
	job      ScheduleJob
	given    []string // of cron, every and at
	hasJob   bool
	errs     []error
}

func (r *scheduleReader) fail(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// members calls each for the keys of an object, whose names it notes if they are duplicate.
func (r *scheduleReader) members(object int, prefix string, each func(key string, value int)) {
	seen := map[string]bool{}
	for at := object + 1; at < r.tape.After(object); {
		key, value := r.tape.Str(at), at+1
		at = r.tape.After(value)
		if seen[key] {
			r.fail("duplicate key %s%s", prefix, jsontext.Clip(key, 40))
			continue
		}
		seen[key] = true
		each(key, value)
	}
}

// record reads one key of the record.
func (r *scheduleReader) record(key string, value int) {
	s := &r.schedule
	switch key {
	case "cron", "every", "at":
		r.given = append(r.given, key)
	case "job":
		r.hasJob = true
	}
	switch key {
	case "cron":
		r.text(key, value, &s.Cron, MaxScheduleText)
		if s.Cron == "" {
			r.fail("cron is empty")
		}
	case "time_zone":
		r.text(key, value, &s.TimeZone, MaxScheduleText)
	case "description":
		r.text(key, value, &s.Description, MaxScheduleText)
	case "source":
		r.text(key, value, &s.Source, MaxScheduleSource)
	case "every":
		r.duration(key, value, &s.Every, minScheduleEvery)
		if d := durationOf(s.Every); d%time.Second != 0 {
			r.fail("every is not whole seconds")
		}
	case "catch_up":
		r.duration(key, value, &s.CatchUp, 0)
	case "overlap":
		r.text(key, value, &s.Overlap, MaxScheduleText)
		if s.Overlap != OverlapSkip && s.Overlap != OverlapAllow {
			r.fail("overlap is not one of %s and %s", OverlapSkip, OverlapAllow)
		}
	case "at":
		if at, ok := r.moment(key, value); ok {
			s.At = &at
		}
	case "job":
		r.body(value)
	default:
		r.fail("unknown key %q; write cron, every, at, time_zone, job, catch_up, overlap, description or source", jsontext.Clip(key, 40))
	}
}

func (r *scheduleReader) text(key string, value int, into *string, most int) {
	if r.tape.Kind(value) != jsontext.String {
		r.fail("%s is not a string", key)
		return
	}
	*into = r.tape.Str(value)
	if utf8.RuneCountInString(*into) > most {
		r.fail("%s is longer than %d characters", key, most)
	}
}

func (r *scheduleReader) duration(key string, value int, into *string, least time.Duration) {
	var text string
	r.text(key, value, &text, MaxScheduleText)
	d, err := time.ParseDuration(text)
	switch {
	case r.tape.Kind(value) != jsontext.String:
	case err != nil || d < least:
		example := "15m or 24h"
		if least > 0 {
			example = "90s or 1h30m, at least " + least.String()
		}
		r.fail("%s is not a duration; write one such as %s", key, example)
	default:
		*into = text
	}
}

func (r *scheduleReader) moment(key string, value int) (at time.Time, ok bool) {
	if r.tape.Kind(value) == jsontext.String && at.UnmarshalText([]byte(r.tape.Str(value))) == nil {
		if whole := at.Truncate(time.Second); !whole.Equal(at) {
			at = whole.Add(time.Second)
		}
		return at.UTC(), true
	}
	r.fail(`%s is not a time with its zone; write one such as "2030-01-31T12:00:00Z"`, key)
	return at, false
}

// body reads what of the job the schedule has to know.
func (r *scheduleReader) body(job int) {
	if r.tape.Kind(job) != jsontext.Object {
		r.fail("job is not a JSON object: write the body of a job")
		return
	}
	r.schedule.Job = json.RawMessage(r.tape.Raw(job))
	r.members(job, "job.", func(key string, value int) {
		switch key {
		case "id":
			r.jobID(value)
		case "expires_in":
			var text string
			r.duration("job.expires_in", value, &text, time.Nanosecond)
			r.job.ExpiresIn = durationOf(text)
		case "expires_at":
			r.fail("job.expires_at is the schedule's to set; write expires_in, which counts from the tick, or catch_up")
		case "reply_to":
			r.fail("job.reply_to is not possible: no publisher waits for a scheduled job")
		case "answer":
			if r.tape.Kind(value) == jsontext.String && r.tape.Str(value) == "reply" {
				r.fail("job.answer: reply is not possible: the result of a scheduled job is stored")
			}
		}
	})
}

func (r *scheduleReader) jobID(value int) {
	if r.tape.Kind(value) != jsontext.String || !ValidID(r.tape.Str(value)) {
		r.fail("job.id is not 1 to 100 of A-Z a-z 0-9 _ -")
		return
	}
	r.job.ID = r.tape.Str(value)
}

// whole checks what several keys say together.
func (r *scheduleReader) whole() {
	slices.Sort(r.given)
	switch {
	case len(r.given) == 0:
		r.fail("no time; %s", scheduleNeedsTimes)
	case len(r.given) > 1:
		r.fail("%s are given; %s", strings.Join(r.given, " and "), scheduleNeedsTimes)
	case r.job.ID != "" && r.given[0] != "at":
		r.fail("job.id is only for at: the job of each tick gets an id of its own; leave it out")
	}
	if !r.hasJob {
		r.fail("job is missing: write the body of a job")
	}
}

// ExpiresAt returns until when the job of a tick may start: as long as the tick may be late, but at least a minute, or as the job says.
func (s *Schedule) ExpiresAt(tick time.Time, job ScheduleJob) time.Time {
	end := tick.Add(max(s.Late(), minScheduleExpiry))
	if job.ExpiresIn > 0 && tick.Add(job.ExpiresIn).Before(end) {
		end = tick.Add(job.ExpiresIn)
	}
	return end.UTC()
}

package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ScheduleKey is what the key of a schedule says: where its jobs are published, and its name. The key is the subject of the jobs
// after the namespace, and the name as its last token. So permission for keys is permission for jobs of these subjects.
type ScheduleKey struct {
	Database string
	Queue    string // empty: none
	Kind     string
	Call     string // the statement that a job of kind call runs; empty for other kinds
	Name     string
}

const (
	scheduleJobs, scheduleQueues                                 = "jobs", "queues"
	kindCall, kindDryRun, kindApprove, kindMigration, kindHealth = "call", "dry_run", "approve", "migration", "health"
)

// errScheduleForm is what is wrong with a key that is no subject of jobs with a name.
var errScheduleForm = errors.New("write jobs.<database>.<kind>.<name>, such as jobs.shop.query.nightly_report; with a queue " +
	"queues.<database>.<queue>.<kind>.<name>; of a call, .call.<statement>.<name>")

// ParseScheduleKey reads the key of a schedule.
func ParseScheduleKey(key string) (ScheduleKey, error) {
	var k ScheduleKey
	tokens := strings.Split(key, ".")
	queued := tokens[0] == scheduleQueues
	if queued && len(tokens) > 3 {
		k.Queue = tokens[2]
		tokens = append([]string{scheduleJobs, tokens[1]}, tokens[3:]...)
	}
	if len(tokens) < 4 || tokens[0] != scheduleJobs {
		return k, errScheduleForm
	}
	k.Database, k.Kind, k.Name = tokens[1], tokens[2], tokens[len(tokens)-1]
	named := tokens[3 : len(tokens)-1]
	switch {
	case k.Kind == kindApprove || k.Kind == kindDryRun:
		return k, errors.New("dry runs and approvals cannot be scheduled")
	case k.Kind == kindCall && len(named) == 1 && named[0] != "":
		k.Call = named[0]
	case k.Kind == kindCall || len(named) > 0:
		return k, errScheduleForm
	}
	return k, k.check(queued)
}

// check returns what is wrong with the parts of a key.
func (k ScheduleKey) check(queued bool) error {
	switch {
	case !ValidName(k.Database):
		return errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -")
	case queued && !ValidQueue(k.Queue):
		return errors.New("the queue is not 1 to 64 of a-z 0-9 _")
	case !ValidName(k.Kind):
		return errors.New("the kind is not 1 to 64 of A-Z a-z 0-9 _ -")
	case queued && (k.Kind == kindMigration || k.Kind == kindHealth):
		return errors.New("queues take no jobs of kind " + k.Kind + ": write jobs." + k.Database + "." + k.Kind + "." + k.Name)
	case !ValidQueue(k.Name), k.Call != "" && !ValidQueue(k.Call):
		return errors.New("the names of schedules and of statements are 1 to 64 of a-z 0-9 _")
	}
	return nil
}

// String returns the key.
func (k ScheduleKey) String() string { return k.path() + "." + k.Name }

// path is the subject of the jobs after the namespace.
func (k ScheduleKey) path() string {
	path := scheduleJobs + "." + k.Database + "." + k.Kind
	if k.Queue != "" {
		path = scheduleQueues + "." + k.Database + "." + k.Queue + "." + k.Kind
	}
	if k.Call != "" {
		path += "." + k.Call
	}
	return path
}

// Subject returns where the jobs of the schedule are published.
func (k ScheduleKey) Subject(s Subjects) string { return s.Namespace + "." + k.path() }

// SchedulesBucket returns the name of the key-value bucket of schedules, with keys of ScheduleKey.
func SchedulesBucket(s Subjects) string { return s.Prefix() + "SCHEDULES" }

// SchedulesSubject returns where the stream behind SchedulesBucket re-publishes the headers of a key that it stored.
func SchedulesSubject(s Subjects, key string) string { return s.Namespace + ".schedules." + key }

const (
	scheduleStatePrefix = "schedule."
	schedulePauseInfix  = ".schedule."
)

// ScheduleStateKey returns the key of a schedule's state in the bucket of StateBucket.
func ScheduleStateKey(key string) string { return scheduleStatePrefix + key }

// ScheduleOfState returns the key of the schedule that a key of the bucket of StateBucket has the state of; false: none.
func ScheduleOfState(key string) (string, bool) { return strings.CutPrefix(key, scheduleStatePrefix) }

// The parts of the id of a tick: the start of the schedule's name, and digits of its key's hash.
const (
	tickNameLength = 40
	tickHashDigits = 12
	tickTime       = "20060102T150405Z"
)

// TickID returns the id of a schedule's tick, which is the id of its job unless the schedule has one.
func (k ScheduleKey) TickID(tick time.Time) string { return k.TaggedID(tick.UTC().Format(tickTime)) }

// TaggedID returns an id that starts as those of the schedule's ticks and ends in a word of its own.
func (k ScheduleKey) TaggedID(word string) string {
	sum := sha256.Sum256([]byte(k.String()))
	name := k.Name[:min(len(k.Name), tickNameLength)]
	return fmt.Sprintf("%s-%s-%s", name, hex.EncodeToString(sum[:])[:tickHashDigits], word)
}

// OneTimeName returns the name of the schedule of a one-time job, by the job's id.
func OneTimeName(id string) string {
	sum := sha256.Sum256([]byte(id))
	return "at_" + hex.EncodeToString(sum[:])[:tickHashDigits]
}

// ScheduleMessageID returns the message id under which the job of a tick is published. It is no valid id of a job, so that the
// stream's deduplication drops no publisher's job.
func ScheduleMessageID(tickID string) string { return scheduleStatePrefix + tickID }

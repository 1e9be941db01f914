package contract_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

var fuzzedSubjects = contract.Subjects{Namespace: "dbrunner"}

// FuzzKeys: what is read from a key or a subject makes the same key again, and every part of it is one token of a subject.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{
		"pause.shop", "pause.shop.queue.bulk", "pause.shop.schedule.jobs.shop.query.nightly", "jobs.shop.call.pay.monthly", "queues.shop.bulk.query.close",
		"dbrunner.jobs.shop.call.pay", "dbrunner.queues.shop.bulk.query", "jobs.shop.>.x", "pause.*", "queues....", "pause..schedule..", "\xff.\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if target, ok := contract.ParsePauseKey(key); ok {
			require.Equal(t, key, contract.PauseKey(target))
			requireTokens(t, target.Database)
		}
		if k, err := contract.ParseScheduleKey(key); err == nil {
			require.Equal(t, key, k.String())
			requireTokens(t, k.Database, k.Kind, k.Name)
			of, ok := fuzzedSubjects.SplitJob(k.Subject(fuzzedSubjects))
			require.True(t, ok)
			require.Equal(t, contract.JobSubject{Database: k.Database, Queue: k.Queue, Kind: k.Kind, Name: k.Call}, of)
			require.True(t, contract.ValidID(k.TickID(time.Unix(0, 0))))
		}
		if of, ok := fuzzedSubjects.SplitJob(key); ok {
			require.NotContains(t, of.Database+of.Queue+of.Kind, ".")
		}
	})
}

func requireTokens(t *testing.T, tokens ...string) {
	t.Helper()
	for _, token := range tokens {
		require.NotEmpty(t, token)
		require.False(t, strings.ContainsAny(token, ".*> \t\r\n\x00"), "%q", token)
	}
}

// FuzzRecords: what is read from a record of a bucket is within its bounds, and is read again as it was written.
func FuzzRecords(f *testing.F) {
	for _, seed := range []string{
		`{"reason":"deploy","by":"ola"}`, `{"sequence":7,"queued_at":"2026-03-01T12:00:00Z","job_id":"a"}`,
		`{"cron":"0 3 * * *","time_zone":"Europe/Warsaw","job":{"sql":"SELECT 1","expires_in":"1h"},"catch_up":"2h","overlap":"skip"}`,
		`{"at":"2030-01-31T12:00:00.5Z","job":{"id":"once"}}`, `{"every":"90s","job":{},"every":"1s"}`,
		`{"record":{"created":1,"revision":2,"stored":"2026-03-01T12:00:00Z"},"status":"active","claim":{"tick":"2026-03-01T12:00:00Z"}}`, `[[`, `{}x`,
		`{"cron":"","job":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if p, err := contract.ReadPause(value); err == nil {
			require.LessOrEqual(t, utf8.RuneCountInString(p.Reason), contract.MaxPauseReason)
			encoded, err := contract.EncodePause(p)
			require.NoError(t, err)
			again, err := contract.ReadPause(encoded)
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if r, err := contract.ReadResume(value); err == nil {
			require.NotZero(t, r.Sequence)
			require.False(t, r.QueuedAt.IsZero())
		}
		if s, err := contract.ReadScheduleState(value); err == nil {
			require.NotZero(t, s.Record.Revision)
		}
		checkSchedule(t, value)
	})
}

func checkSchedule(t *testing.T, value []byte) {
	t.Helper()
	s, job, err := contract.ReadSchedule(value)
	if err != nil {
		return
	}
	require.LessOrEqual(t, len(value), contract.MaxScheduleRecord)
	encoded, err := contract.EncodeSchedule(s)
	if err != nil { // its text grew by escapes
		require.ErrorContains(t, err, "larger than")
		return
	}
	_, again, err := contract.ReadSchedule(encoded)
	require.NoError(t, err)
	require.Equal(t, job, again)
	tick := time.Unix(1_800_000_000, 0)
	require.True(t, s.ExpiresAt(tick, job).After(tick))
}

// TestScheduleWithoutTimes: an empty cron is no time, and must not make a record that never fires.
func TestScheduleWithoutTimes(t *testing.T) {
	t.Parallel()
	_, _, err := contract.ReadSchedule([]byte(`{"cron":"","job":{"sql":"SELECT 1"}}`))
	require.ErrorContains(t, err, "cron is empty")
}

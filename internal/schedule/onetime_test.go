package schedule_test

import (
	"context"
	"flag"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/schedule"
)

var oneTimeSchedules = flag.Int("schedules", 300, "one-time schedules of TestOneTimeSchedulesLeaveNothing")

// later is a bucket whose server has a later time.
type later struct {
	schedule.Bucket
	by *atomic.Int64
}

func (l later) Read(ctx context.Context) (*schedules.News, error) {
	news, err := l.Bucket.Read(ctx)
	if err == nil {
		news.Server = news.Server.Add(time.Duration(l.by.Load()))
	}
	return news, err
}

// TestOneTimeSchedulesLeaveNothing: each runs once, and a day later neither its record nor its state is there, nor what is left of
// deleted ones. "-schedules 20000" takes minutes.
func TestOneTimeSchedulesLeaveNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	at := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339)
	for i := range *oneTimeSchedules {
		id := fmt.Sprintf("job%d", i)
		record := fmt.Sprintf(`{"at":%q,"job":{"id":%q,"sql":"SELECT 1"}}`, at, id)
		_, err := f.JS.PublishAsync("$KV.DBRUNNER_SCHEDULES.jobs.demo.query."+contract.OneTimeName(id), []byte(record))
		require.NoError(t, err)
		if i%1000 == 999 {
			<-f.JS.PublishAsyncComplete()
		}
	}
	f.put("jobs.demo.query.deleted", `{"every":"1s","job":`+job+`}`)
	select {
	case <-f.JS.PublishAsyncComplete():
	case <-time.After(time.Minute):
		require.FailNow(t, "records are not stored")
	}
	var by atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(by.Load())) }
	conn, _ := bustest.Connect(t, f.Node.ClientURL())
	f.start("r1", func(o *schedule.Options) {
		o.Now, o.Records, o.States = now, later{schedules.Records(conn, now), &by}, later{schedules.States(conn, now), &by}
	})
	f.await("jobs.demo.query.deleted", func(s *contract.ScheduleState) bool { return s.Fired == 1 })
	require.NoError(t, f.records.Delete(t.Context(), "jobs.demo.query.deleted"))
	jobs := func() int {
		s, err := f.JS.Stream(context.Background(), "DBRUNNER_JOBS_"+bustest.Database)
		require.NoError(t, err)
		return int(s.CachedInfo().State.Msgs) //nolint:gosec // few
	}
	require.Eventually(t, func() bool { return jobs() == *oneTimeSchedules+1 }, 10*time.Minute, 50*time.Millisecond)
	for i := range 3 {
		s := f.await("jobs.demo.query."+contract.OneTimeName(fmt.Sprintf("job%d", i)), func(s *contract.ScheduleState) bool { return s.Status == contract.ScheduleFinished })
		require.Equal(t, fmt.Sprintf("job%d", i), s.LastFired.JobID)
	}
	by.Store(int64(25 * time.Hour))
	for _, bucket := range []string{"KV_DBRUNNER_SCHEDULES", "KV_DBRUNNER_STATE"} {
		left := func() uint64 {
			s, err := f.JS.Stream(context.Background(), bucket)
			require.NoError(t, err)
			return s.CachedInfo().State.Msgs
		}
		require.Eventually(t, func() bool { return left() == 0 }, 10*time.Minute, 50*time.Millisecond, bucket)
	}
	require.Equal(t, *oneTimeSchedules+1, jobs(), "none ran again")
}

// TestPermissionForOneKey is permission for no other.
func TestPermissionForOneKey(t *testing.T) {
	t.Parallel()
	const mine, other = "jobs.demo.query.mine", "jobs.demo.transaction.other"
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "a"},
		&server.User{Username: "one", Password: "o", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"$KV.DBRUNNER_SCHEDULES." + mine}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}},
	))
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	_, js := bustest.Plain(t, node.ClientURL(), nats.UserInfo("admin", "a"))
	records, err := js.KeyValue(t.Context(), "DBRUNNER_SCHEDULES")
	require.NoError(t, err)
	_, err = records.Put(t.Context(), other, []byte(`{"cron":"@daily","job":`+job+`}`))
	require.NoError(t, err)
	_, one := bustest.Plain(t, node.ClientURL(), nats.UserInfo("one", "o"))
	for _, header := range []string{"Nats-Rollup", "Nats-TTL", "Nats-Schedule", "Nats-Marker-Reason", "KV-Operation", "Nats-Expected-Last-Subject-Sequence-Subject"} {
		for _, value := range []string{"all", "sub", "1s", "PURGE", "DEL", "$KV.DBRUNNER_SCHEDULES." + other} {
			msg := &nats.Msg{Subject: "$KV.DBRUNNER_SCHEDULES." + mine, Header: nats.Header{header: {value}}, Data: []byte(`{"cron":"@daily","job":` + job + `}`)}
			_, _ = one.PublishMsg(t.Context(), msg) // most are refused
		}
	}
	e, err := records.Get(t.Context(), other)
	require.NoError(t, err)
	require.EqualValues(t, 1, e.Revision(), "it is as it was")
	require.Error(t, records.Purge(t.Context(), mine), "purge is refused")
}

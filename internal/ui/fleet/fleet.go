package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	fleetWhole    = time.Minute // everything is read again, so that what expired is gone
	fleetBytes    = 64 << 20    // of heartbeats in one reading
	missedBeats   = 3           // so many intervals without a heartbeat make a runner silent
	defaultBeat   = 10 * time.Second
	ratesInterval = time.Second // the shortest time between heartbeats that a rate is taken from
)

// RunnerSeen is the last heartbeat of a runner.
type RunnerSeen struct {
	contract.RunnerHeartbeat
	SeenAt time.Time          // by the server's clock
	rates  map[string]float64 // finished jobs per second, by database
}

// Silent reports whether a runner should have sent another heartbeat by now.
func (r *RunnerSeen) Silent(now time.Time) bool {
	return r.State != contract.RunnerStopped && now.Sub(r.SeenAt) > missedBeats*interval(r.Interval)
}

// DatabaseSeen is the last heartbeat of a database by one runner.
type DatabaseSeen struct {
	contract.DatabaseHeartbeat
	SeenAt time.Time
}

func (d *DatabaseSeen) gone(now time.Time) bool {
	return d.RunnerState == contract.RunnerStopped || now.Sub(d.SeenAt) > missedBeats*interval(d.Interval)
}

func interval(seconds float64) time.Duration {
	if seconds <= 0 {
		return defaultBeat
	}
	return time.Duration(seconds * float64(time.Second))
}

// Fleet is what heartbeats report. It reads the stream of heartbeats: what is new, at most once a second, and only while pages
// are open.
type Fleet struct {
	Source *Source

	mu        sync.Mutex
	asOf      time.Time
	Runners   map[string]*RunnerSeen
	Databases map[string]map[string]*DatabaseSeen // by database and runner

	abandoned []*DatabaseSummary // databases of which no runner sends heartbeats
	Unlisted  error              // why those are not known; nil: they are

	next    uint64    // the first sequence that was not read
	created time.Time // of the stream
	whole   time.Time // when everything was read last
}

// View calls use with the fleet as it is now, or was a moment ago. use must not keep the maps. The error is why nothing could
// be read.
func (f *Fleet) View(ctx context.Context, use func(*Fleet)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asOf.IsZero() || f.Source.Now().Sub(f.asOf) >= time.Second {
		if err := f.read(ctx); err != nil {
			return fmt.Errorf("read the heartbeats: %w", err)
		}
	}
	use(f)
	return nil
}

// RunnersOf are the runners that answer for databases, as of their last heartbeats; busy: only those with jobs in flight there.
func (f *Fleet) RunnersOf(databases []string, busy bool, now time.Time) []client.MissingRunner {
	out := []client.MissingRunner{}
	for _, r := range f.Runners {
		if r.State == contract.RunnerStopped || r.Silent(now) {
			continue
		}
		for i := range r.Databases {
			d := &r.Databases[i]
			idle := !slices.ContainsFunc(d.Lanes, func(l contract.LaneStatus) bool { return l.SlotsInUse > 0 })
			if slices.Contains(databases, d.Name) && (!busy || !idle) {
				out = append(out, client.MissingRunner{Database: d.Name, Runner: r.Instance, Process: r.Process, State: r.State, HeartbeatAt: r.SeenAt})
			}
		}
	}
	return out
}

// Forget lets the next look read again: an action has changed what runners report.
func (f *Fleet) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asOf = time.Time{}
}

// read reads what is new.
func (f *Fleet) read(ctx context.Context) error {
	stream := f.Source.Subjects.HealthStream()
	info, err := f.Source.Info(ctx, stream, struct{}{})
	if err != nil {
		return err
	}
	now := f.Source.Now()
	from := f.next
	earlier := f.Runners
	all := f.Runners == nil || !info.Created.Equal(f.created) || info.State.LastSeq+1 < f.next || now.Sub(f.whole) > fleetWhole
	if all {
		from, f.whole = 1, now
		f.Runners, f.Databases = map[string]*RunnerSeen{}, map[string]map[string]*DatabaseSeen{}
	}
	f.created = info.Created
	if info.State.LastSeq >= from {
		request := client.MessagesRequest{Stream: stream, Subject: f.Source.Subjects.Namespace + ".health.>", From: from, MaxBytes: fleetBytes}
		err = f.Source.Messages(ctx, request, func(m *client.Message) error {
			f.take(m, earlier)
			from = m.Sequence + 1
			return nil
		})
	}
	if err != nil {
		if all {
			f.Runners = nil // what was read of an unfinished whole says nothing about what is missing
		}
		return err
	}
	f.next, f.asOf = max(from, info.State.LastSeq+1), now
	if all {
		found, err := f.findAbandoned(ctx)
		if f.Unlisted = err; err == nil {
			f.abandoned = found
		}
	}
	return nil
}

// take takes over a message. What is no heartbeat of this version is left out.
func (f *Fleet) take(m *client.Message, earlier map[string]*RunnerSeen) {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(m.Subject, f.Source.Subjects.Namespace+".health."), ".")
	switch kind {
	case "runner":
		r := &RunnerSeen{SeenAt: m.Time}
		if json.Unmarshal(m.Data, &r.RunnerHeartbeat) != nil {
			return
		}
		r.rates = ratesSince(earlier[rest], r)
		f.Runners[rest] = r
	case "database":
		name, instance, _ := strings.Cut(rest, ".")
		d := &DatabaseSeen{SeenAt: m.Time}
		if json.Unmarshal(m.Data, &d.DatabaseHeartbeat) != nil || !contract.ValidName(name) {
			return
		}
		if f.Databases[name] == nil {
			f.Databases[name] = map[string]*DatabaseSeen{}
		}
		f.Databases[name][instance] = d
	}
}

// ratesSince are the finished jobs per second between two heartbeats of one run of a runner.
func ratesSince(before, now *RunnerSeen) map[string]float64 {
	if before == nil || before.Process != now.Process {
		return nil
	}
	passed := now.At.Sub(before.At)
	if passed < ratesInterval {
		return before.rates
	}
	rates := make(map[string]float64, len(now.Databases))
	finished := func(r *RunnerSeen, add float64) {
		for i := range r.Databases {
			for j := range r.Databases[i].Lanes {
				for _, n := range r.Databases[i].Lanes[j].Settled {
					rates[r.Databases[i].Name] += add * float64(n)
				}
			}
		}
	}
	finished(now, 1/passed.Seconds())
	finished(before, -1/passed.Seconds())
	return rates
}

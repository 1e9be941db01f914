package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dbrunner/internal/db/cutproxy"
	"dbrunner/test/faults/check"
)

// nemesis is one sort of faults. make makes one of them and ends it again; rng decides what the seed decides. What it
// returns is recorded in the history.
type nemesis struct {
	name  string
	what  string
	pause time.Duration // from the end of one to the begin of the next, at least
	make  func(ctx context.Context, r *round, rng *rand.Rand) (note string, err error)
}

// nemeses are all sorts of faults; without a SQL Server those of its connections are left out, so that the seeds take the others in turn.
func nemeses(server bool) []nemesis {
	list := []nemesis{
		{"none", "nothing happens", time.Hour, func(context.Context, *round, *rand.Rand) (string, error) { return "", nil }},
		{"runner_kill", "a runner is killed (SIGKILL)", 600 * time.Millisecond, runnerKill},
		{"runner_term", "a runner is asked to end (SIGTERM)", 600 * time.Millisecond, runnerTerm},
		{"runner_stop", "a runner is stopped for longer than the ack wait (SIGSTOP)", 500 * time.Millisecond, runnerStop},
		{"runner_crash", "a runner dies between two steps of a job", 200 * time.Millisecond, runnerCrash},
		{"job_kills", "a job kills its runner", time.Hour, jobKills},
		{"nats_stepdown", "streams and consumers change their leader", 700 * time.Millisecond, natsStepDown},
		{"nats_kill", "a server of the cluster is killed", 1500 * time.Millisecond, natsKill},
		{"nats_restart", "all servers of the cluster are restarted", 4 * time.Second, natsRestart},
		{"nats_crash", "all servers of the cluster are killed together", 4 * time.Second, func(_ context.Context, r *round, _ *rand.Rand) (string, error) { return "", r.world.cluster.crash() }},
		{"nats_stop", "a server of the cluster is stopped where it is (SIGSTOP)", 1500 * time.Millisecond, natsStop},
		{"nats_cut", "the runners' links to NATS are cut", 400 * time.Millisecond, natsCut},
		{"nats_hold", "the runners' links to NATS let nothing through", 800 * time.Millisecond, natsHold},
		{"results_full", "the results streams take nothing more", time.Second, resultsFull},
		{check.ConsumerDeleted, "a consumer is deleted", time.Second, consumerDeleted},
		{"queue_disordered", "the consumer of the ordered queue delivers many jobs at a time", time.Second, queueDisordered},
		{"pg_terminate", "an administrator ends sessions of PostgreSQL", 200 * time.Millisecond, pgTerminate},
		{"pg_kill", "a process of PostgreSQL is killed, which restarts the server", 2 * time.Second, pgKill},
		{"pg_restart", "PostgreSQL is restarted as after a crash", 2 * time.Second, pgRestart},
		{"pg_stop", "PostgreSQL is stopped where it is (SIGSTOP)", 800 * time.Millisecond, pgStop},
		{"pg_cut_before", "the link is cut just before COMMIT", 30 * time.Millisecond, pgCut((*cutproxy.Proxy).CutBefore)},
		{"pg_cut_after", "the link is cut just after COMMIT", 30 * time.Millisecond, pgCut((*cutproxy.Proxy).CutAfter)},
		{"pg_late_commit", "the link is cut at COMMIT, which arrives seconds later", 100 * time.Millisecond, pgLateCommit},
		{"clock_skew", "a runner is killed, and the next one's clock is wrong by up to an hour, or steps both ways each second", 800 * time.Millisecond, clockSkew},
		{"pg_exhausted", "others use up PostgreSQL's connections", 800 * time.Millisecond, pgExhausted},
	}
	list = slices.Concat(list, networkNemeses(), machineNemeses(), releaseNemeses()) // seeds choose by index: new ones come last
	if server {
		list = append(list, depotNemeses()...)
	}
	return list
}

func knownNemeses(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(nemeses(true), func(n nemesis) bool { return n.name == name }) {
			return fmt.Errorf("there is no nemesis %q; -only list names all", name)
		}
	}
	return nil
}

// scheduled is a nemesis at work during a run: it makes faults, one after the other.
type scheduled struct {
	nemesis
	first time.Duration
	rng   *rand.Rand
}

// planFaults decides which nemeses are at work: the seeds take them in turn, and each third one mixes three.
func (r *round) planFaults() []scheduled {
	rng := rand.New(rand.NewPCG(r.seed, 2))
	var list []nemesis
	for _, n := range nemeses(r.opts.sqlserver != "") {
		if len(r.opts.only) == 0 || slices.Contains(r.opts.only, n.name) {
			list = append(list, n)
		}
	}
	pick := []nemesis{list[r.seed%uint64(len(list))]}
	switch {
	case r.opts.mix:
		pick = list
	case r.seed%3 == 0 && len(list) > 2:
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		pick = list[:3]
	}
	var out []scheduled
	for i, n := range pick {
		first := 500*time.Millisecond + time.Duration(rng.Int64N(int64(time.Second)))
		out = append(out, scheduled{nemesis: n, first: first, rng: rand.New(rand.NewPCG(r.seed, uint64(10+i)))})
		if n.name == "job_kills" {
			q := &check.Request{
				Name: "killer", Class: "killer", Database: shop, Kind: "transaction", ID: "killer", Effect: check.ExactlyOnce, Rows: 1,
				Body:     []byte(`{"id":"killer","labels":{"request":"killer"},"statements":[{"sql":"` + insertEffect + `('killer', 0, 0, 0, '')"}]}`),
				Statuses: []string{check.Failed}, Codes: []string{"too_many_deliveries"},
			}
			r.plan.addKiller(q, first)
		}
	}
	return out
}

// works reports whether a nemesis is at work in the run.
func (r *round) works(name string) bool {
	return slices.ContainsFunc(r.faults, func(s scheduled) bool { return s.name == name })
}

// names are the nemeses of the run.
func (r *round) names() string {
	var names []string
	for _, f := range r.faults {
		names = append(names, f.name)
	}
	return strings.Join(names, "+")
}

// faultLog notes the faults that were made.
type faultLog struct {
	mu     sync.Mutex
	faults []check.Fault
}

func (l *faultLog) add(f check.Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, f)
}

func (l *faultLog) list() []check.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.faults)
}

// makeFaults lets the nemeses work until the time is over, and returns when the last fault has ended.
func (r *round) makeFaults(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range r.faults {
		all.Go(func() {
			until := r.started.Add(r.opts.length)
			at := r.started.Add(s.first)
			for at.Before(until) && wait(ctx, time.Until(at)) == nil {
				f := check.Fault{Name: s.name, From: time.Now()}
				note, err := s.make(ctx, r, s.rng)
				if strings.HasPrefix(s.name, "nats_") { // the fault lasts, and the next one waits, until the cluster is whole
					err = errors.Join(err, r.world.cluster.whole(ctx))
				}
				f.Until, f.Note = time.Now(), note
				if err != nil {
					f.Note += " (" + err.Error() + ")"
				}
				r.made.add(f)
				if r.opts.verbose {
					progress("  %6.2fs to %6.2fs  %s %s", f.From.Sub(r.started).Seconds(), f.Until.Sub(r.started).Seconds(), f.Name, f.Note)
				}
				at = time.Now().Add(s.pause + time.Duration(s.rng.Int64N(int64(s.pause))))
				if r.opts.recovery {
					at = time.Now().Add(recoveryPause + time.Duration(s.rng.Int64N(int64(time.Second))))
				}
			}
		})
	}
	all.Wait()
}

// heal ends whatever may still be in the way, and waits until the servers are as they were.
func (r *round) heal(ctx context.Context) error {
	for _, n := range r.world.cluster.nodes {
		n.link.Release()
		if n.process().ended() {
			if err := r.world.cluster.start(n); err != nil {
				return err
			}
		}
	}
	r.world.proxy.Disarm()
	if r.world.sqlserver != nil {
		r.world.sqlserver.restore()
	}
	return errors.Join(r.world.cluster.whole(ctx), r.world.postgres.Await()) //nolint:contextcheck // it bounds its own start
}

func (r *round) anyone(rng *rand.Rand) *runner { return r.fleet.all[rng.IntN(len(r.fleet.all))] }

func runnerKill(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	m := r.anyone(rng)
	m.kill(ctx)
	return m.name, nil
}

func runnerTerm(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	m := r.anyone(rng)
	m.terminate(ctx)
	return m.name, nil
}

func runnerStop(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	m := r.anyone(rng)
	d := ackWait + time.Duration(rng.Int64N(int64(ackWait)))
	m.freeze(ctx, d)
	return fmt.Sprintf("%s for %s", m.name, d), nil
}

// places are where a runner can be made to die.
var places = []string{
	"after_commit", "before_store", "after_store", "after_reply", "after_letter", "after_ack", "after_started", "after_statement",
	"migration_noted", "migration_dirty", "migration_applied", "outbox_claimed", "outbox_posted", "outbox_published", "outbox_deleted",
	"schedule_claimed", "schedule_publishing", "schedule_published", "schedule_confirmed", "shared_sealed", "shared_committed",
}

// runnerCrash has a runner die at a place, at a pass that the seed decides. It waits for its death for a while.
func runnerCrash(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	m, place := r.anyone(rng), places[rng.IntN(len(places))]
	pass := 1 + rng.IntN(150)
	if strings.HasPrefix(place, "migration") || strings.HasPrefix(place, "outbox") || strings.HasPrefix(place, "schedule") || place == "after_letter" || place == "after_started" || place == "after_statement" {
		pass = 1 + pass%3
	}
	m.kill(ctx, fmt.Sprintf("DBRUNNER_CRASH_AT=%s:%d", place, pass))
	p := m.process(ctx)
	if p == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	died := "it did not come there"
	select {
	case <-p.done:
		died = "it died"
	case <-ctx.Done():
		m.kill(context.WithoutCancel(ctx)) // the next one is not to die
	}
	return fmt.Sprintf("%s at pass %d of %s: %s", m.name, pass, place, died), nil
}

// jobKills waits until the job has ended that kills its runners; the plan has it, and the runners know it.
func jobKills(ctx context.Context, r *round, _ *rand.Rand) (string, error) {
	before := 0
	for _, m := range r.fleet.all {
		m.mu.Lock()
		before += m.starts
		m.mu.Unlock()
	}
	err := eventually(ctx, 40*time.Second, "the job that kills its runners has ended", func() bool {
		stream, err := r.js.Stream(ctx, r.stream("RESULTS", shop))
		if err != nil {
			return false
		}
		_, err = stream.GetLastMsgForSubject(ctx, r.namespace+".results."+shop+"."+r.plan.killer)
		return err == nil
	})
	after := 0
	for _, m := range r.fleet.all {
		m.mu.Lock()
		after += m.starts
		m.mu.Unlock()
	}
	return fmt.Sprintf("%d runners died", after-before), err
}

func (r *round) api(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := r.nc.RequestWithContext(ctx, "$JS.API."+subject, nil)
	return err
}

func natsStepDown(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	database := r.databases[rng.IntN(len(r.databases))]
	lanes := consumers(database)
	subjects := []string{
		"STREAM.LEADER.STEPDOWN." + r.stream("JOBS", database), "STREAM.LEADER.STEPDOWN." + r.stream("RESULTS", database),
		"CONSUMER.LEADER.STEPDOWN." + r.stream("JOBS", database) + "." + lanes[rng.IntN(len(lanes))], "META.LEADER.STEPDOWN",
		"STREAM.LEADER.STEPDOWN.KV_" + r.bucket("STATE"), "STREAM.LEADER.STEPDOWN.KV_" + r.bucket("SCHEDULES"),
	}
	subject := subjects[rng.IntN(len(subjects))]
	return subject, r.api(ctx, subject)
}

func natsKill(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	n := r.world.cluster.nodes[rng.IntN(nodes)]
	n.process().kill()
	_ = wait(ctx, time.Duration(rng.Int64N(int64(2*time.Second))))
	return n.name, r.world.cluster.start(n)
}

func natsStop(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	n := r.world.cluster.nodes[rng.IntN(nodes)]
	d := time.Second + time.Duration(rng.Int64N(int64(4*time.Second)))
	p := n.process() // another fault may restart the server
	p.signal(syscall.SIGSTOP)
	_ = wait(ctx, d)
	p.signal(syscall.SIGCONT)
	return n.name + " for " + d.String(), nil
}

func natsRestart(_ context.Context, r *round, _ *rand.Rand) (string, error) {
	var all sync.WaitGroup
	for _, n := range r.world.cluster.nodes {
		all.Go(n.stop)
	}
	all.Wait()
	var err error
	for _, n := range r.world.cluster.nodes {
		err = errors.Join(err, r.world.cluster.start(n))
	}
	return "", err
}

func natsCut(_ context.Context, r *round, _ *rand.Rand) (string, error) {
	for _, n := range r.world.cluster.nodes {
		n.link.Cut()
	}
	return "", nil
}

func natsHold(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	d := time.Duration(rng.Int64N(int64(2 * ackWait)))
	for _, n := range r.world.cluster.nodes {
		n.link.Hold()
	}
	_ = wait(ctx, d)
	for _, n := range r.world.cluster.nodes {
		n.link.Release()
	}
	return d.String(), nil
}

// resultsFull lowers the limit of all results streams to what they have, for a while.
func resultsFull(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	var err error
	for _, database := range r.databases {
		err = errors.Join(err, r.limitResults(ctx, database, true))
	}
	_ = wait(ctx, time.Second+time.Duration(rng.Int64N(int64(2*time.Second))))
	for _, database := range r.databases {
		again := eventually(ctx, settleTime, "the limit of results is back", func() bool {
			return r.limitResults(ctx, database, false) == nil
		})
		err = errors.Join(err, again)
	}
	return "", err
}

func (r *round) limitResults(ctx context.Context, database string, full bool) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.stream("RESULTS", database))
	if err != nil {
		return err
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = resultsCount
	if full {
		config.MaxMsgs = int64(max(stream.CachedInfo().State.Msgs, 1))
	}
	_, err = r.js.UpdateStream(ctx, config)
	return err
}

func consumerDeleted(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	database := r.databases[rng.IntN(len(r.databases))]
	lanes := consumers(database)
	subject := "CONSUMER.DELETE." + r.stream("JOBS", database) + "." + lanes[rng.IntN(len(lanes))]
	return subject, r.api(ctx, subject)
}

// addKiller adds a job that its runner does not survive.
func (p *plan) addKiller(r *check.Request, at time.Duration) {
	p.killer = r.ID
	p.requests[r.Name] = r
	p.messages = append(p.messages, message{at: at, request: r, msgID: true})
	slices.SortStableFunc(p.messages, func(a, b message) int { return int(a.at - b.at) })
}

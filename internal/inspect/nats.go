package inspect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/manager"
)

// loopbackOnly reports whether all servers are on this machine.
func loopbackOnly(urls []string) bool {
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// natsLimit bounds the look at NATS.
const natsLimit = 30 * time.Second

// natsInspection looks at NATS with the runner's own rights.
type natsInspection struct {
	cfg    *config.Config
	report func(Finding)
	hashes map[string]string // of catalogs, by database
}

func (l *natsInspection) find(about, part string, grade db.Grade, text, remedy string) {
	l.report(Finding{About: about, Finding: db.Finding{Part: part, Grade: grade, Text: text, Remedy: remedy}})
}

// run connects, tries every right, and compares streams and consumers.
func (l *natsInspection) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, natsLimit)
	defer cancel()
	opts := manager.BusOptions(l.cfg, nil)
	started := time.Now()
	conn, err := bus.Connect(ctx, opts)
	if err != nil {
		text, remedy := err.Error(), "check nats.urls and the server"
		if e, ok := errors.AsType[*bus.ConnectError](err); ok {
			text, remedy = "no connection to "+e.URL+": "+e.Reason, e.Remedy
		}
		l.find(aboutNATS, partConnection, db.GradeFault, text, remedy)
		return
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing was published
	l.report(Finding{About: aboutNATS, Finding: db.Finding{
		Part: partConnection, Grade: db.GradeOK, Text: "connected to " + conn.State().Server, Latency: time.Since(started),
	}})
	denied, ok := l.rights(ctx, opts)
	if !ok {
		return
	}
	wanted := Subscriptions(l.cfg)
	enough, err := bus.TrySubscriptions(ctx, opts, wanted)
	switch {
	case err != nil:
		l.find(aboutNATS, partRights, db.GradeFault, "the number of subscriptions could not be tested: "+err.Error(), "check the server and its log")
	case !enough:
		l.find(aboutNATS, partRights, db.GradeFault, fmt.Sprintf("the server allows fewer than the %d subscriptions that the runner holds", wanted),
			"raise max_subscriptions of the server, or the account's limit")
	}
	l.topology(ctx, conn, denied, l.account(ctx, conn, denied))
	l.catalogs(ctx, conn)
}

// denied are the subjects that are refused; creating has those that are only needed to create something.
type denied struct {
	needed   []bus.Permission
	creating map[string]bool
	account  bool
}

func (l *natsInspection) rights(ctx context.Context, opts bus.Options) (*denied, bool) {
	rights := topology.RunnerPermissions(opts, topology.RightsOptions{
		Topology: manager.Topology(l.cfg), Create: l.cfg.Topology.Mode == config.TopologyManage, Run: l.cfg.API.Run, ReplyPrefixes: l.cfg.ReplyPrefixes,
		Outbox: manager.OutboxTargets(l.cfg),
	})
	tried, err := bus.ProbePermissions(ctx, opts, append(rights, bus.AccountRight(opts)))
	if err != nil {
		l.find(aboutNATS, partRights, db.GradeFault, "the permissions could not be tested: "+err.Error(), "check the server and its log")
		return nil, false
	}
	last := len(tried) - 1
	out := &denied{creating: map[string]bool{}, account: tried[last].State != bus.RightGranted}
	unknown := 0
	for _, r := range tried[:last] {
		switch {
		case r.State == bus.RightUnknown:
			unknown++
		case r.State == bus.RightGranted:
		case r.Creates:
			out.creating[r.Subject] = true
		default:
			out.needed = append(out.needed, r)
			l.find(aboutNATS, partRights, db.GradeFault, "the server refuses to "+r.String(), "allow it to the runner's user, see docs/security.md")
		}
	}
	switch {
	case unknown > 0:
		l.find(aboutNATS, partRights, db.GradeWarning, fmt.Sprintf("the server did not report whether %d of %d subjects are allowed", unknown, last),
			"look for refusals in the runner's log (nats_denied) once it runs")
	case len(out.needed) == 0:
		l.find(aboutNATS, partRights, db.GradeOK, fmt.Sprintf("all of %d subjects are allowed", last-len(out.creating)), "")
	}
	return out, true
}

// The subscriptions that a runner holds all the time: two inboxes, requests to cancel, pauses, two of schedules, nine of the service protocol and eight
// requests of the whole fleet; and eight requests of each database, besides one inbox for each lane.
const (
	fleetSubscriptions    = 23
	databaseSubscriptions = 8
)

// Subscriptions returns how many subscriptions a runner of this configuration holds.
func Subscriptions(cfg *config.Config) int {
	n := fleetSubscriptions
	for _, d := range manager.Topology(cfg).Databases {
		n += databaseSubscriptions + len(d.Lanes)
	}
	return n
}

// account reports the limits of the account, where the runner may see them: it need not.
func (l *natsInspection) account(ctx context.Context, conn *bus.Conn, d *denied) *bus.Account {
	if d.account || l.blind(d) {
		return nil
	}
	a, err := bus.ReadAccount(ctx, conn)
	if err != nil {
		l.find(aboutNATS, partAccount, db.GradeFault, "JetStream does not answer: "+err.Error(),
			"enable JetStream in the server and for this account, and check nats.domain")
		return nil
	}
	tier := a.Tier(l.cfg.Topology.Replicas)
	l.find(aboutNATS, partAccount, db.GradeOK, fmt.Sprintf("JetStream: %d streams of %s, %d MiB of %s", tier.Streams, limitText(int64(tier.Limits.MaxStreams), ""),
		tier.Bytes>>20, limitText(tier.Limits.MaxBytes>>20, " MiB")), "")
	if most := tier.Limits.MaxBytes; most > 0 && tier.Bytes > most/10*9 {
		l.find(aboutNATS, partAccount, db.GradeWarning, "the account's storage is more than 90 percent full", "raise the account's limit, or lower those of topology.*")
	}
	return a
}

func limitText(n int64, unit string) string {
	if n <= 0 {
		return "any number"
	}
	return fmt.Sprintf("%d%s", n, unit)
}

// blind reports whether answers of JetStream cannot arrive, or cannot be asked for.
func (l *natsInspection) blind(d *denied) bool {
	for _, r := range d.needed {
		if r.Subscribe && strings.HasPrefix(r.Subject, l.cfg.NATS.InboxPrefix+".") || strings.Contains(r.Subject, ".INFO.") {
			return true
		}
	}
	return false
}

func (l *natsInspection) topology(ctx context.Context, conn *bus.Conn, d *denied, account *bus.Account) {
	if l.blind(d) {
		l.find(aboutTopology, partStreams, db.GradeFault, "streams and consumers could not be read: a permission is missing", "allow it, see above")
		return
	}
	differences, err := topology.Diff(ctx, conn, manager.Topology(l.cfg))
	if err != nil {
		l.find(aboutTopology, partStreams, db.GradeFault, err.Error(), "enable JetStream in the server and for this account, and check nats.domain")
		return
	}
	missing, notes := 0, 0
	for i := range differences {
		if differences[i].Missing {
			missing++
		}
		if differences[i].Note {
			notes++
		}
		d := &differences[i]
		grade, remedy := db.GradeFault, d.Remedy()
		switch {
		case d.Note:
			grade = db.GradeNote
		case d.Missing && l.cfg.Topology.Mode == config.TopologyManage:
			grade, remedy = db.GradeNote, "a runner creates it when it starts"
		case !d.Missing && !d.Stops():
			remedy += "; or configure what is there"
		}
		l.find(aboutTopology, partStreams, grade, d.String(), remedy)
	}
	if len(differences) == notes {
		l.find(aboutTopology, partStreams, db.GradeOK, "streams and consumers are as configured", "")
	}
	if len(d.creating) > 0 {
		grade, remedy := db.GradeNote, "needed only when one has to be created: set topology.mode: verify, or allow them (docs/security.md)"
		if missing > 0 {
			grade, remedy = db.GradeFault, "run runner topology apply with a user who may, or allow them (docs/security.md)"
		}
		l.find(aboutTopology, partRights, grade, fmt.Sprintf("the server refuses to create streams or consumers (%d subjects)", len(d.creating)), remedy)
	} else if missing > 0 && l.cfg.Topology.Mode == config.TopologyManage {
		l.creatable(ctx, conn, account)
	}
}

// creatable reports what keeps a runner from creating what is missing.
func (l *natsInspection) creatable(ctx context.Context, conn *bus.Conn, account *bus.Account) {
	found, err := topology.FindObstacles(ctx, conn, manager.Topology(l.cfg), account)
	if err != nil {
		l.find(aboutTopology, partStreams, db.GradeFault, "the missing streams and consumers could not be tested:  "+err.Error(), "check the server and its log")
		return
	}
	for i := range found.Obstacles {
		l.find(aboutTopology, partStreams, db.GradeFault, found.Obstacles[i].String(), found.Obstacles[i].Remedy)
	}
	if account == nil {
		l.find(aboutTopology, partAccount, db.GradeNote, "the account's limits of streams and consumers could not be read", "allow "+bus.AccountRight(manager.BusOptions(l.cfg, nil)).Subject+" to know before a runner starts")
	}
	if wanted := l.cfg.Topology.Replicas; found.Clustered && found.Servers > 0 && found.Servers < wanted {
		l.find(aboutTopology, partStreams, db.GradeWarning, fmt.Sprintf("the cluster has %d servers, but each stream needs %d replicas", found.Servers, wanted),
			"start more servers, or lower topology.replicas")
	}
	if found.Clustered && len(found.Obstacles) == 0 {
		l.find(aboutTopology, partStreams, db.GradeNote, fmt.Sprintf("whether %d servers of the cluster have room for the streams shows when a runner creates them", l.cfg.Topology.Replicas),
			"nats server report jetstream shows the servers, to a user of the system account")
	}
}

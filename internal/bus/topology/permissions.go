package topology

import (
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// RightsOptions define what a runner does beside its topology.
type RightsOptions struct {
	Topology      Topology
	Create        bool     // missing streams and consumers are created
	Run           bool     // the run endpoint publishes jobs
	ReplyPrefixes []string // that replies may have besides the built-in ones
	Outbox        []string // subjects, behind the namespace, that rows of outboxes are published to
}

// RunnerPermissions are the rights that a runner with these options needs, with subjects as it uses them.
func RunnerPermissions(opts bus.Options, want RightsOptions) []bus.Permission {
	opts = opts.WithDefaults()
	b := &rightsOf{opts: &opts, subjects: contract.Subjects{Namespace: opts.Namespace}, api: bus.APIPrefix(opts.Domain), want: want}
	b.fleet()
	for i := range want.Topology.Databases {
		b.database(&want.Topology.Databases[i])
	}
	b.outbox()
	return b.list
}

// rightsOf gathers rights.
type rightsOf struct {
	opts     *bus.Options
	subjects contract.Subjects
	api      string
	want     RightsOptions
	list     []bus.Permission
}

func (b *rightsOf) publish(list ...string) { b.add(bus.Permission{}, "", list) }

func (b *rightsOf) subscribe(list ...string) { b.add(bus.Permission{Subscribe: true}, "", list) }

func (b *rightsOf) creates(calls ...string) {
	if b.want.Create {
		b.add(bus.Permission{Creates: true}, b.api, calls)
	}
}

func (b *rightsOf) add(like bus.Permission, prefix string, list []string) {
	for _, subject := range list {
		like.Subject = prefix + subject
		b.list = append(b.list, like)
	}
}

func (b *rightsOf) calls(calls ...string) { b.add(bus.Permission{}, b.api, calls) }

func (b *rightsOf) fleet() {
	s := b.subjects
	b.subscribe(b.opts.InboxPrefix+"."+bus.ProbeName+".*", s.Control(">"), s.State("pause.>"), s.State("schedule.>"), contract.SchedulesSubject(s, ">"), "$SRV.PING", "$SRV.INFO."+s.Namespace, "$SRV.STATS."+s.Namespace+"."+bus.ProbeName,
		s.API("databases"), s.API("*"), s.API("health.>"), s.API("run.>"), s.API("cancel.>"), s.API("running.>"), s.API("result.>"), s.API("calls.>"))
	b.publish(s.RunnerHealth(b.opts.Instance), "_INBOX."+bus.ProbeName)
	for _, prefix := range b.want.ReplyPrefixes {
		b.publish(prefix + bus.ProbeName)
	}
	for _, stream := range []string{s.DeadStream(), s.HealthStream(), bus.ControlStream(s)} {
		b.calls("STREAM.INFO." + stream)
		b.creates("STREAM.CREATE." + stream)
	}
	b.calls("STREAM.MSG.GET." + bus.ControlStream(s))
	b.calls("STREAM.INFO." + s.AuditStream())
	b.creates("STREAM.CREATE."+bus.StateStream(s), "STREAM.CREATE."+bus.SchedulesStream(s), "STREAM.CREATE."+s.AuditStream())
	for _, stream := range []string{bus.StateStream(s), bus.SchedulesStream(s)} {
		b.calls("STREAM.INFO."+stream, "STREAM.MSG.GET."+stream, "STREAM.PURGE."+stream, "DIRECT.GET."+stream)
	}
	b.objects()
}

// outbox adds what relays need: they ask for the targets' ledgers and publish there.
func (b *rightsOf) outbox() {
	s, asked := b.subjects, map[string]bool{}
	for _, target := range b.want.Outbox {
		b.publish(s.Namespace + "." + target)
		of, ok := s.SplitJob(s.Namespace + "." + target)
		if !ok || asked[of.Database] {
			continue
		}
		asked[of.Database] = true
		b.publish(s.API("databases." + of.Database))
		b.subscribe(contract.OutboxReply(s, of.Database, bus.ProbeName))
	}
}

func (b *rightsOf) objects() {
	rows, params := b.subjects.RowsBucket(), b.subjects.ParamsBucket()
	for _, bucket := range []string{rows, params} {
		b.calls("STREAM.INFO."+bus.ObjectPrefix+bucket, "STREAM.MSG.GET."+bus.ObjectPrefix+bucket)
		b.creates("STREAM.CREATE." + bus.ObjectPrefix + bucket)
	}
	b.publish(bus.MetaSubject(rows, bus.ProbeName))
	b.calls("STREAM.PURGE."+bus.ObjectPrefix+rows, "DIRECT.GET."+bus.ObjectPrefix+params)
}

func (b *rightsOf) database(d *Database) {
	s, jobs, results := b.subjects, b.subjects.JobsStream(d.Name), b.subjects.ResultsStream(d.Name)
	b.subscribe(s.Result(d.Name, "*"), s.API("databases."+d.Name), s.API("health."+d.Name), s.API("run."+d.Name+".*"), s.API("run."+d.Name+".*.*"), s.API("cancel."+d.Name+".*"),
		s.API("running."+d.Name), s.API("result."+d.Name+".*"), s.API("calls."+d.Name))
	b.publish(s.Store(d.Name, bus.ProbeName), s.DatabaseHealth(d.Name, b.opts.Instance), s.Migration(d.Name), b.bucket(bus.ControlKey(s, d.Name+"."+bus.ProbeName)),
		b.bucket(bus.StateKey(s, contract.PauseKey(contract.PauseTarget{Database: d.Name}))),
		b.bucket(bus.StateKey(s, contract.ScheduleStateKey("jobs."+d.Name+"."+bus.ProbeName))),
		s.Namespace+".replies."+d.Name+"."+bus.ProbeName, s.API("databases."+d.Name))
	b.publish(bus.ChunkSubject(s.RowsBucket(), d.Name+"."+bus.ProbeName))
	b.calls("STREAM.INFO."+jobs, "STREAM.MSG.GET."+jobs, "STREAM.INFO."+results, "STREAM.MSG.GET."+results,
		"DIRECT.GET."+results+"."+s.Result(d.Name, bus.ProbeName), "STREAM.PURGE."+results)
	b.creates("STREAM.CREATE."+jobs, "STREAM.CREATE."+results)
	for i := range d.Lanes {
		lane := &d.Lanes[i]
		if lane.Queue != "" {
			b.publish(b.bucket(bus.StateKey(s, contract.PauseKey(contract.PauseTarget{Database: d.Name, Queue: lane.Queue}))))
		}
		b.calls("CONSUMER.INFO."+jobs+"."+lane.Name, "CONSUMER.MSG.NEXT."+jobs+"."+lane.Name)
		b.creates("CONSUMER.CREATE." + jobs + "." + lane.Name)
		b.publish(b.ack(jobs, lane.Name))
		for _, kind := range lane.Kinds {
			b.publish(s.DeadLetter(d.Name, kind, bus.ProbeName))
		}
		for _, end := range lane.subjects() {
			if b.want.Run && lane.Queue == "" { // the run endpoint serves no queues
				b.publish(s.Job(d.Name, strings.ReplaceAll(end, "*", bus.ProbeName)))
			}
		}
	}
}

// bucket is where a key of a bucket is published to: $KV.> stays inside a domain.
func (b *rightsOf) bucket(key string) string {
	if b.opts.Domain != "" {
		return b.api + key
	}
	return key
}

// ack is a subject of acknowledgements in the form that the server writes today.
func (b *rightsOf) ack(stream, lane string) string {
	if b.opts.Domain != "" {
		return "$JS.ACK." + b.opts.Domain + ".hash." + stream + "." + lane + ".1.1.1.1.0"
	}
	return "$JS.ACK." + stream + "." + lane + ".1.1.1.1.0"
}

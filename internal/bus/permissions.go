package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
)

// Permission is a subject that a runner publishes or subscribes to.
type Permission struct {
	Subject   string
	Subscribe bool
	Creates   bool // needed only to create what is missing
	State     RightState
}

// RightState is what the server said to a try.
type RightState uint8

// The states.
const (
	RightUnknown RightState = iota // the server said nothing
	RightGranted
	RightDenied
)

func (r Permission) String() string {
	if r.Subscribe {
		return "subscribe " + r.Subject
	}
	return "publish " + r.Subject
}

// RightsOptions say what a runner does beside its topology.
type RightsOptions struct {
	Topology      Topology
	Create        bool     // missing streams and consumers are created
	Run           bool     // the synchronous door publishes jobs
	ReplyPrefixes []string // that replies may have besides the built-in ones
}

// tried stands for a name that nobody has.
const tried = "dbrunner-check"

// RunnerPermissions are the rights that a runner with these options needs, with subjects as it uses them.
func RunnerPermissions(opts Options, want RightsOptions) []Permission {
	opts.setDefaults()
	b := &rightsOf{opts: &opts, subjects: subjects{contract.Subjects{Namespace: opts.Namespace}}, api: apiPrefix(opts.Domain), want: want}
	b.fleet()
	for i := range want.Topology.Databases {
		b.database(&want.Topology.Databases[i])
	}
	return b.list
}

// rightsOf gathers rights.
type rightsOf struct {
	opts     *Options
	subjects subjects
	api      string
	want     RightsOptions
	list     []Permission
}

func (b *rightsOf) publish(list ...string) {
	for _, subject := range list {
		b.list = append(b.list, Permission{Subject: subject})
	}
}

func (b *rightsOf) subscribe(list ...string) {
	for _, subject := range list {
		b.list = append(b.list, Permission{Subject: subject, Subscribe: true})
	}
}

func (b *rightsOf) creates(calls ...string) {
	if !b.want.Create {
		return
	}
	for _, call := range calls {
		b.list = append(b.list, Permission{Subject: b.api + call, Creates: true})
	}
}

func (b *rightsOf) calls(calls ...string) {
	for _, call := range calls {
		b.publish(b.api + call)
	}
}

func (b *rightsOf) fleet() {
	s := b.subjects
	b.subscribe(b.opts.InboxPrefix+"."+tried+".*", s.Control(">"), "$SRV.PING", "$SRV.INFO."+s.Namespace, "$SRV.STATS."+s.Namespace+"."+tried,
		s.API("databases"), s.API("*"), s.API("health.>"), s.API("run.>"), s.API("cancel.>"))
	b.publish(s.RunnerHealth(b.opts.Instance), "_INBOX."+tried)
	for _, prefix := range b.want.ReplyPrefixes {
		b.publish(prefix + tried)
	}
	for _, stream := range []string{s.DeadStream(), s.HealthStream(), s.controlStream()} {
		b.calls("STREAM.INFO." + stream)
		b.creates("STREAM.CREATE." + stream)
	}
	b.calls("STREAM.MSG.GET." + s.controlStream())
	b.objects()
}

func (b *rightsOf) objects() {
	rows, params := b.subjects.RowsBucket(), b.subjects.ParamsBucket()
	for _, bucket := range []string{rows, params} {
		b.calls("STREAM.INFO."+objectPrefix+bucket, "STREAM.MSG.GET."+objectPrefix+bucket)
		b.creates("STREAM.CREATE." + objectPrefix + bucket)
	}
	b.publish(metaSubject(rows, tried))
	b.calls("STREAM.PURGE."+objectPrefix+rows, "DIRECT.GET."+objectPrefix+params)
}

func (b *rightsOf) database(d *DatabaseTopology) {
	s, jobs, results := b.subjects, b.subjects.JobsStream(d.Name), b.subjects.ResultsStream(d.Name)
	b.subscribe(s.Result(d.Name, "*"), s.API("databases."+d.Name), s.API("health."+d.Name), s.API("run."+d.Name+".*"), s.API("cancel."+d.Name+".*"))
	b.publish(s.Store(d.Name, tried), s.DatabaseHealth(d.Name, b.opts.Instance), s.Migration(d.Name), b.control(d.Name+"."+tried),
		s.Namespace+".replies."+d.Name+"."+tried, s.API("databases."+d.Name))
	b.publish(chunkSubject(s.RowsBucket(), d.Name+"."+tried))
	b.calls("STREAM.INFO."+jobs, "STREAM.MSG.GET."+jobs, "STREAM.INFO."+results, "STREAM.MSG.GET."+results,
		"DIRECT.GET."+results, "DIRECT.GET."+results+"."+s.Result(d.Name, tried), "STREAM.PURGE."+results)
	b.creates("STREAM.CREATE."+jobs, "STREAM.CREATE."+results)
	for _, lane := range d.Lanes {
		b.calls("CONSUMER.INFO."+jobs+"."+lane.Name, "CONSUMER.MSG.NEXT."+jobs+"."+lane.Name)
		b.creates("CONSUMER.CREATE." + jobs + "." + lane.Name)
		b.publish(b.ack(jobs, lane.Name))
		for _, kind := range lane.Kinds {
			b.publish(s.DeadLetter(d.Name, kind, tried))
			if b.want.Run {
				b.publish(s.Job(d.Name, kind))
			}
		}
	}
}

// control is where a key of the bucket of requests to cancel is published to: $KV.> stays inside a domain.
func (b *rightsOf) control(key string) string {
	if b.opts.Domain != "" {
		return b.api + b.subjects.controlKey(key)
	}
	return b.subjects.controlKey(key)
}

// ack is a subject of acknowledgements in the form that the server writes today.
func (b *rightsOf) ack(stream, lane string) string {
	if b.opts.Domain != "" {
		return "$JS.ACK." + b.opts.Domain + ".hash." + stream + "." + lane + ".1.1.1.1.0"
	}
	return "$JS.ACK." + stream + "." + lane + ".1.1.1.1.0"
}

// ProbePermissions asks the server for each right whether we have it, without any effect. A message names as its reply a subject
// of acknowledgements, which no client may: the server looks at the right to publish first, and then refuses the reply.
// So it says one of two things of each message and hands none of them on. Should a server not refuse such replies, the
// message still does nothing: it names a stream that is not there, and as a request it is not valid. A subscription ends
// with the next command.
func ProbePermissions(ctx context.Context, opts Options, rights []Permission) ([]Permission, error) {
	opts.setDefaults()
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	t := &trial{refusals: map[string]bool{}, closed: make(chan struct{})}
	nc, err := t.dial(ctx, opts)
	if err != nil {
		return nil, err
	}
	err = t.send(nc, rights)
	if err == nil {
		err = nc.FlushWithContext(ctx)
	}
	nc.Close()
	<-t.closed // the library has told all refusals before
	if err != nil {
		return nil, fmt.Errorf("try the permissions in NATS: %w", err)
	}
	out := make([]Permission, len(rights))
	for i, r := range rights {
		r.State = t.verdict(i, &r)
		out[i] = r
	}
	return out, nil
}

// TrySubscriptions reports whether one connection may have n subscriptions. They are to inboxes, and end with the connection.
func TrySubscriptions(ctx context.Context, opts Options, n int) (bool, error) {
	opts.setDefaults()
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	t := &trial{refusals: map[string]bool{}, closed: make(chan struct{})}
	nc, err := t.dial(ctx, opts)
	if err != nil {
		return false, err
	}
	for i := 0; i < n && err == nil; i++ {
		_, err = nc.SubscribeSync(nc.NewInbox())
	}
	if err == nil {
		err = nc.FlushWithContext(ctx)
	}
	nc.Close()
	<-t.closed
	if err != nil {
		return false, fmt.Errorf("try subscriptions in NATS: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.full, nil
}

// trial is a connection that is there to be refused.
type trial struct {
	closed chan struct{}

	mu       sync.Mutex
	refusals map[string]bool // what the server said no to, in its words
	full     bool            // it said that there are enough subscriptions
}

func (t *trial) dial(ctx context.Context, opts Options) (*nats.Conn, error) {
	options, err := opts.natsOptions()
	if err != nil {
		return nil, err
	}
	options = append(options, nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { t.refused(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(t.closed) }))
	nc, err := nats.Connect(opts.URL, options...)
	if err != nil {
		return nil, explainConnect(ctx, &opts, err)
	}
	return nc, nil
}

func (t *trial) refused(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full = t.full || errors.Is(err, nats.ErrMaxSubscriptionsExceeded)
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	t.refusals[refusedSubject(err.Error())] = true
}

// refusedSubject is the end of a refusal in the server's words: what it is about and the subject.
func refusedSubject(text string) string {
	_, rest, _ := strings.Cut(strings.ToLower(text), "permissions violation for ")
	if _, quoted, ok := strings.Cut(text, `"`); ok {
		subject, _, _ := strings.Cut(quoted, `"`)
		what, _, _ := strings.Cut(rest, ` "`)
		return what + " " + subject
	}
	return rest
}

// replyOf is the reply of one try: the server refuses it by this name.
func replyOf(i int) string {
	return "$JS.ACK." + tried + "." + tried + "." + strconv.Itoa(i+1) + ".1.1.1.0"
}

func (t *trial) send(nc *nats.Conn, rights []Permission) error {
	for i := range rights {
		if rights[i].Subscribe {
			sub, err := nc.SubscribeSync(rights[i].Subject)
			if err != nil {
				return err
			}
			if err := sub.Unsubscribe(); err != nil {
				return err
			}
			continue
		}
		err := nc.PublishMsg(&nats.Msg{
			Subject: rights[i].Subject, Reply: replyOf(i), Data: []byte("{" + tried),
			Header: nats.Header{nats.ExpectedStreamHdr: {tried}, headerProbe: {"1"}},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) verdict(i int, r *Permission) RightState {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case r.Subscribe && t.refusals["subscription to "+r.Subject], !r.Subscribe && t.refusals["publish to "+r.Subject]:
		return RightDenied
	case r.Subscribe, t.refusals["publish with reply of "+replyOf(i)]:
		return RightGranted
	}
	return RightUnknown
}

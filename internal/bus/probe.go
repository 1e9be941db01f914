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

// ProbeName stands for a name that does not exist.
const ProbeName = "dbrunner-check"

// ProbePermissions asks the server for each right whether we have it, without any effect. A message names as its reply a subject
// of acknowledgements, which no client may: the server looks at the right to publish first, and then refuses the reply.
// So it says one of two things of each message and hands none of them on. Should a server not refuse such replies, the
// message still does nothing: it names a stream that is not there, and as a request it is not valid. A subscription ends
// with the next command.
func ProbePermissions(ctx context.Context, opts Options, rights []Permission) ([]Permission, error) {
	opts.setDefaults()
	ctx, cancel := context.WithTimeout(ctx, APITimeout)
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
	<-t.closed // the library has reported all refusals before
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
	ctx, cancel := context.WithTimeout(ctx, APITimeout)
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
	return "$JS.ACK." + ProbeName + "." + ProbeName + "." + strconv.Itoa(i+1) + ".1.1.1.0"
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
			Subject: rights[i].Subject, Reply: replyOf(i), Data: []byte("{" + ProbeName),
			Header: nats.Header{nats.ExpectedStreamHdr: {ProbeName}, contract.HeaderProbe: {"1"}},
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

package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"dbrunner/contract"
)

// maxDenied bounds the remembered permission errors.
const maxDenied = 16

// Conn is the connection to NATS with everything that a runner does over it. It is safe for concurrent use.
type Conn struct {
	nc        *nats.Conn
	log       *zap.Logger
	opts      Options
	subjects  subjects
	apiPrefix string
	pub       *publisher
	dialer    dialer
	closed    chan struct{} // closed when the library has stopped calling us
	evicted   atomic.Uint64 // dead letters that WatchDead saw go

	mu       sync.Mutex
	state    State
	watchers map[chan struct{}]struct{} // told of every change of the link
	plan     *plan                      // what Manage or Verify was last called with

	cancellations *Cancellations // nil: nobody reads them
	topology      topologyWatch
}

// plan is the topology that this runner stands for.
type plan struct {
	topology Topology
	create   bool // missing parts are created: topology "manage"
}

// State describes the connection at one moment.
type State struct {
	Connected  bool
	Server     string    // the server's address without credentials
	Since      time.Time // of the last change of Connected
	Reconnects uint64
	LastError  string // the reason of the last disconnection or the last asynchronous error
	Refused    string // why the server refuses our credentials, or we cannot show them, since the link was lost; empty: it does not
	// Denied are permission errors about subjects that the runner needs for itself, one of each kind of subject, remembered
	// until the process ends: a runner with one is not healthy.
	Denied []string
	// DeniedReplies counts answers that the server refused to let go to where their requester wanted them.
	DeniedReplies uint64
	Closed        bool
}

// Healthy reports whether the connection stands and was never refused a subject.
func (s State) Healthy() bool {
	return s.Connected && len(s.Denied) == 0
}

// Connect connects to NATS. A server that cannot be reached or refuses us is an error that says what failed and
// what to do; once connected, the connection is renewed for ever. The owner calls Close.
func Connect(ctx context.Context, opts Options) (*Conn, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("NATS options: %w", err)
	}
	c := &Conn{
		log:       opts.Logger,
		opts:      opts,
		subjects:  subjects{contract.Subjects{Namespace: opts.Namespace}},
		apiPrefix: apiPrefix(opts.Domain),
		closed:    make(chan struct{}),
		watchers:  make(map[chan struct{}]struct{}),
	}
	if err := c.dial(ctx); err != nil {
		return nil, err
	}
	if err := c.setUp(); err != nil {
		c.nc.Close()
		return nil, err
	}
	return c, nil
}

func apiPrefix(domain string) string {
	if domain == "" {
		return "$JS.API."
	}
	return "$JS." + domain + ".API."
}

func (c *Conn) dial(ctx context.Context) error {
	options, err := c.opts.natsOptions()
	if err != nil {
		return err
	}
	c.dialer.net.Timeout, c.dialer.seedFile = c.opts.ConnectTimeout, c.opts.NKeySeedFile
	options = append(options,
		nats.SetCustomDialer(&c.dialer),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.onDisconnect(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { c.onReconnect(nc) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.onReconnectError(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.onError(err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	)
	type dialed struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan dialed, 1)
	go func() { // ends with the library's own timeout when the caller leaves earlier
		nc, err := nats.Connect(c.opts.URL, options...)
		if err != nil {
			c.dialer.close()
		}
		done <- dialed{nc, err}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return explainConnect(ctx, &c.opts, d.err)
		}
		c.nc = d.nc
		c.dialer.conn.Store(d.nc)
		return nil
	case <-ctx.Done():
		go func() {
			if d := <-done; d.err == nil {
				d.nc.Close()
			}
		}()
		return fmt.Errorf("connect to NATS at %s: %w", redactURLs(c.opts.URL), ctx.Err())
	}
}

func (c *Conn) setUp() error {
	c.mu.Lock()
	c.state.Connected, c.state.Since, c.state.Server = true, time.Now(), c.nc.ConnectedUrlRedacted()
	c.mu.Unlock()
	pub, err := newPublisher(c.nc, c.opts.MaxInFlight)
	if err != nil {
		return fmt.Errorf("subscribe to the inbox %s.>: %w", c.opts.InboxPrefix, err)
	}
	c.pub = pub
	return nil
}

// CheckInbox reports an inbox that the server refuses as a *ConnectError: nothing that is asked for would be answered.
func (c *Conn) CheckInbox(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, c.opts.ConnectTimeout)
	defer cancel()
	if err := c.nc.FlushWithContext(bounded); err != nil && ctx.Err() == nil {
		return fmt.Errorf("flush to NATS: %w", err)
	}
	err := c.nc.LastError() // the refusal came before the answer to the flush
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return ctx.Err()
	}
	inbox := "subscription to " + c.opts.InboxPrefix + "."
	if !strings.HasPrefix(refusedSubject(err.Error()), inbox) {
		return ctx.Err()
	}
	return &ConnectError{
		URL: redactURLs(c.opts.URL), Err: err, Reason: "the server refuses to subscribe " + c.opts.InboxPrefix + ".>, where answers come",
		Remedy: "take an inbox that this user may subscribe to (nats.inbox_prefix, or --inbox-prefix), or allow this one (docs/security.md)",
	}
}

// Close flushes what was published, at most until the context ends, closes the connection and waits for what it
// started. Intakes and publishes must have ended before.
func (c *Conn) Close(ctx context.Context) error {
	var err error
	if c.nc.IsConnected() {
		if _, bounded := ctx.Deadline(); !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.opts.ConnectTimeout)
			defer cancel()
		}
		err = c.nc.FlushWithContext(ctx)
	}
	c.mu.Lock()
	c.state.Closed, c.state.Connected = true, false
	c.mu.Unlock()
	c.pub.close()
	c.nc.Close()
	<-c.closed // the library calls it last
	c.dialer.close()
	if err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("flush to NATS: %w", err)
	}
	return nil
}

// State tells how the connection is.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.Denied = append([]string(nil), c.state.Denied...)
	return s
}

// MaxPayload is the largest message that the server takes, headers included, in bytes.
func (c *Conn) MaxPayload() int {
	return int(c.nc.MaxPayload())
}

// MaxJob is the largest body of a job that the streams take, in bytes.
func (c *Conn) MaxJob() int { return max(c.MaxPayload()-deadLetterReserve, deadLetterReserve) }

// Namespace is the first token of all subjects.
func (c *Conn) Namespace() string { return c.opts.Namespace }

// Instance is this runner's name.
func (c *Conn) Instance() string { return c.opts.Instance }

func (c *Conn) onDisconnect(err error) {
	c.mu.Lock()
	if c.state.Closed {
		c.mu.Unlock()
		return
	}
	c.state.Connected, c.state.Since = false, time.Now()
	c.state.LastError = errorText(err)
	c.mu.Unlock()
	c.log.Warn("NATS connection lost, reconnecting", zap.String("reason", errorText(err)))
	c.notify()
}

func (c *Conn) onReconnect(nc *nats.Conn) {
	c.mu.Lock()
	if c.state.Closed {
		c.mu.Unlock()
		return
	}
	c.state.Connected, c.state.Since, c.state.Server = true, time.Now(), nc.ConnectedUrlRedacted()
	c.state.Refused = ""
	c.state.Reconnects++
	server := c.state.Server
	c.mu.Unlock()
	c.log.Info("NATS connection is back", zap.String("server", server))
	c.pub.interrupt()
	c.notify()
}

// onError gets what the server says outside of any request: refused subjects above all. A publish to a refused
// subject succeeds locally, so this is the only place where it shows.
func (c *Conn) onError(err error) {
	text := errorText(err)
	denied := errors.Is(err, nats.ErrPermissionViolation)
	reply := denied && c.subjects.forOthers(err.Error(), c.opts.InboxPrefix)
	c.mu.Lock()
	news := c.state.LastError != text
	c.state.LastError = text
	if refusesLogin(err) && !c.state.Connected {
		c.state.Refused = text
	}
	switch {
	case reply:
		c.state.DeniedReplies++
	case denied:
		news = c.state.deny(text)
	}
	c.mu.Unlock()
	switch {
	case !news:
	case reply:
		c.log.Warn("NATS refused an answer's subject: its requester gets none", zap.String("reason", text),
			zap.String("remedy", "the requester takes an inbox that the runner may publish to, or the runner gets the permission (docs/security.md)"))
	case denied:
		c.log.Error("NATS refused a subject: the runner's permissions are too narrow", zap.String("reason", text))
	default:
		c.log.Warn("NATS reported an error", zap.String("reason", text))
	}
}

// onReconnectError gets why an attempt to connect again has failed. A server that is away is no news; a file with
// credentials that cannot be read any more is.
func (c *Conn) onReconnectError(err error) {
	_, isFile := errors.AsType[*fs.PathError](err)
	if !isFile && !refusesLogin(err) {
		return
	}
	reason, _ := explain(err)
	c.mu.Lock()
	news := c.state.Refused != reason
	c.state.Refused = reason
	c.mu.Unlock()
	if news {
		c.log.Warn("NATS login failed; trying again", zap.String("reason", reason))
	}
}

// blame adds a refused subject to the reason for a silence: a refused request gets no other answer.
func (c *Conn) blame(reason string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.state.Denied); n > 0 {
		return reason + "; " + c.state.Denied[n-1]
	}
	return reason
}

// denied reports whether the server has refused us a subject.
func (c *Conn) denied(subject string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.state.Denied {
		if strings.Contains(text, `"`+subject+`"`) {
			return true
		}
	}
	return false
}

// deny remembers a refused subject, unless one of its kind is remembered.
func (s *State) deny(text string) bool {
	kind := kindOfRefusal(text)
	known := slices.ContainsFunc(s.Denied, func(have string) bool { return kindOfRefusal(have) == kind })
	if known || len(s.Denied) == maxDenied {
		return false
	}
	s.Denied = append(s.Denied, text)
	return true
}

// kindOfRefusal is a refusal without the tokens that are another one for each message: ids, sequences and marks.
func kindOfRefusal(text string) string {
	refused := refusedSubject(text)
	tokens := strings.Split(refused, ".")
	keep := len(tokens)
	switch what := tokens[1:]; {
	case strings.HasSuffix(tokens[0], "$JS") && len(what) > 3 && what[0] == "ACK":
		keep = 4
	case strings.Contains(refused, ".DIRECT.GET."):
		keep = 5
	case strings.HasSuffix(tokens[0], "$KV"), strings.HasSuffix(tokens[0], "$O"):
		keep = 3
	case len(what) > 2 && (what[0] == "store" || what[0] == "dead" || what[0] == "replies"):
		keep = 3
	}
	return strings.Join(tokens[:min(keep, len(tokens))], ".")
}

// errorText is an error's text on one line.
func errorText(err error) string {
	if err == nil {
		return "closed by the server"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// watch returns a channel that gets a token after every change of the link, and the function that ends it.
func (c *Conn) watch() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	c.mu.Unlock()
	return w, func() {
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
	}
}

func (c *Conn) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		wake(w)
	}
}

// link is the number of times the connection was renewed and whether it stands.
func (c *Conn) link() (renewals uint64, connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Reconnects, c.state.Connected
}

// AwaitLink returns when the connection stands or the context has ended.
func (c *Conn) AwaitLink(ctx context.Context) error {
	if _, connected := c.link(); connected {
		return nil
	}
	changes, stop := c.watch()
	defer stop()
	for {
		if _, connected := c.link(); connected {
			return nil
		}
		select {
		case <-changes:
		case <-c.closed:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("NATS is not connected: %w", ctx.Err())
		}
	}
}

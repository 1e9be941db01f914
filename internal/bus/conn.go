package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"dbrunner/contract"
)

// Conn is the connection to NATS with everything that a runner does over it. It is safe for concurrent use.
type Conn struct {
	nc        *nats.Conn
	opts      Options
	subjects  contract.Subjects
	apiPrefix string
	pub       *publisher
	dialer    dialer

	link
	hooks
}

// Connect connects to NATS. A server that cannot be reached or refuses us is an error that names what failed and
// what to do; once connected, the connection is renewed indefinitely. The owner calls Close.
func Connect(ctx context.Context, opts Options) (*Conn, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("NATS options: %w", err)
	}
	c := &Conn{
		opts:      opts,
		subjects:  contract.Subjects{Namespace: opts.Namespace},
		apiPrefix: APIPrefix(opts.Domain),
		link: link{
			log: opts.Logger, closed: make(chan struct{}), watchers: make(map[chan struct{}]struct{}),
		},
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

// APIPrefix returns the beginning of the subjects of the JetStream API in a domain, with the dot.
func APIPrefix(domain string) string {
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
		nats.ReconnectHandler(func(nc *nats.Conn) { c.onReconnect(nc, c.pub.interrupt) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.onReconnectError(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.onError(err, forOthers(c.subjects, err.Error(), c.opts.InboxPrefix))
		}),
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
		URL: redactURLs(c.opts.URL), Err: err, Reason: "the server refuses to subscribe " + c.opts.InboxPrefix + ".>, which receives replies",
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

// MaxPayload is the largest message that the server takes, headers included, in bytes.
func (c *Conn) MaxPayload() int {
	return int(c.nc.MaxPayload())
}

// deadLetterReserve is how much smaller than the server's largest message a job must be, in bytes: the headers of a
// dead letter come on top of the job's own body.
const deadLetterReserve = 64 << 10

// MaxJob is the largest body of a job that the streams take, in bytes.
func (c *Conn) MaxJob() int { return max(c.MaxPayload()-deadLetterReserve, deadLetterReserve) }

// NATS returns the client library's connection, for the packages of single resources.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Log returns the connection's logger.
func (c *Conn) Log() *zap.Logger { return c.log }

// Options returns the options with their defaults.
func (c *Conn) Options() Options { return c.opts }

// Now returns the time of a clock that goes on while the machine is suspended.
func (c *Conn) Now() time.Time { return c.opts.Now() }

// Subjects builds the subjects of the namespace.
func (c *Conn) Subjects() contract.Subjects { return c.subjects }

// APIPrefix returns the beginning of the subjects of the JetStream API, with the dot.
func (c *Conn) APIPrefix() string { return c.apiPrefix }

// CheckReply reports a subject that no reply may go to, as ErrSubject.
func (c *Conn) CheckReply(subject string) error {
	return checkReply(c.subjects, subject, c.opts.InboxPrefix)
}

// Namespace is the first token of all subjects.
func (c *Conn) Namespace() string { return c.opts.Namespace }

// Instance is this runner's name.
func (c *Conn) Instance() string { return c.opts.Instance }

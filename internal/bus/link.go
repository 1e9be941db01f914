package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// maxDenied bounds the remembered permission errors.
const maxDenied = 16

// link is how the connection is, and what is notified of its changes.
type link struct {
	log    *zap.Logger
	closed chan struct{} // closed when the library has stopped calling us

	mu       sync.Mutex
	state    State
	watchers map[chan struct{}]struct{} // notified of every change
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
	// DeniedReplies counts answers that the server refused to deliver to where their requester wanted them.
	DeniedReplies uint64
	Closed        bool
}

// Healthy reports whether the connection stands and was never refused a subject.
func (s State) Healthy() bool {
	return s.Connected && len(s.Denied) == 0
}

// State reports how the connection is.
func (l *link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state
	s.Denied = append([]string(nil), l.state.Denied...)
	return s
}

func (l *link) onDisconnect(err error) {
	l.mu.Lock()
	if l.state.Closed {
		l.mu.Unlock()
		return
	}
	l.state.Connected, l.state.Since = false, time.Now()
	l.state.LastError = ErrorText(err)
	l.mu.Unlock()
	l.log.Warn("NATS disconnected; reconnecting", zap.String("reason", ErrorText(err)))
	l.notify()
}

func (l *link) onReconnect(nc *nats.Conn, interrupt func()) {
	l.mu.Lock()
	if l.state.Closed {
		l.mu.Unlock()
		return
	}
	l.state.Connected, l.state.Since, l.state.Server = true, time.Now(), nc.ConnectedUrlRedacted()
	l.state.Refused = ""
	l.state.Reconnects++
	server := l.state.Server
	l.mu.Unlock()
	l.log.Info("NATS reconnected", zap.String("server", server))
	interrupt()
	l.notify()
}

// onError gets what the server says outside of any request: refused subjects above all. A publish to a refused
// subject succeeds locally, so this is the only place where it shows.
func (l *link) onError(err error, aboutReply bool) {
	text := ErrorText(err)
	denied := errors.Is(err, nats.ErrPermissionViolation)
	reply := denied && aboutReply
	l.mu.Lock()
	news := l.state.LastError != text
	l.state.LastError = text
	if refusesLogin(err) && !l.state.Connected {
		l.state.Refused = text
	}
	switch {
	case reply:
		l.state.DeniedReplies++
	case denied:
		news = l.state.deny(text)
	}
	l.mu.Unlock()
	switch {
	case !news:
	case reply:
		l.log.Warn("NATS refused the subject of a reply", zap.String("reason", text),
			zap.String("remedy", "use a reply subject that the runner may publish to, or grant the runner the permission (docs/security.md)"))
	case denied:
		l.log.Error("NATS refused a subject; permission missing", zap.String("reason", text))
	default:
		l.log.Warn("NATS reported an error", zap.String("reason", text))
	}
}

// onReconnectError gets why an attempt to connect again has failed. A server that is away is no news; a file with
// credentials that cannot be read any more is.
func (l *link) onReconnectError(err error) {
	_, isFile := errors.AsType[*fs.PathError](err)
	if !isFile && !refusesLogin(err) {
		return
	}
	reason, _ := explain(err)
	l.mu.Lock()
	news := l.state.Refused != reason
	l.state.Refused = reason
	l.mu.Unlock()
	if news {
		l.log.Warn("NATS login failed; retrying", zap.String("reason", reason))
	}
}

// Blame adds a refused subject to the reason for a silence: a refused request gets no other answer.
func (l *link) Blame(reason string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.state.Denied); n > 0 {
		return reason + "; " + l.state.Denied[n-1]
	}
	return reason
}

// Refused reports whether the server has refused us a subject.
func (l *link) Refused(subject string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, text := range l.state.Denied {
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

// ErrorText is an error's text on one line.
func ErrorText(err error) string {
	if err == nil {
		return "closed by the server"
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// WatchLink returns a channel that gets a token after every change of the link, and the function that ends it.
func (l *link) WatchLink() (<-chan struct{}, func()) {
	w := make(chan struct{}, 1)
	l.mu.Lock()
	l.watchers[w] = struct{}{}
	l.mu.Unlock()
	return w, func() {
		l.mu.Lock()
		delete(l.watchers, w)
		l.mu.Unlock()
	}
}

// WhileLinked returns a context that also ends at the next change of the link, and the function that ends it: an answer that was on its way
// over a lost link may never come. What is read over another link is asked for again.
func (l *link) WhileLinked(ctx context.Context) (context.Context, func()) {
	changes, unwatch := l.WatchLink()
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-changes:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel()
		watching.Wait()
		unwatch()
	}
}

func (l *link) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.watchers {
		wake(w)
	}
}

// Link is the number of times the connection was renewed and whether it stands.
func (l *link) Link() (renewals uint64, connected bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Reconnects, l.state.Connected
}

// AwaitLink returns when the connection stands or the context has ended.
func (l *link) AwaitLink(ctx context.Context) error {
	if _, connected := l.Link(); connected {
		return nil
	}
	changes, stop := l.WatchLink()
	defer stop()
	for {
		if _, connected := l.Link(); connected {
			return nil
		}
		select {
		case <-changes:
		case <-l.closed:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("NATS is not connected: %w", ctx.Err())
		}
	}
}

// wake leaves a token in a channel for one.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

package service

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// The queue groups of the service: in each, one runner gets a request. The second one listens beside the endpoints, so
// as to detect that no runner has one for a request.
const (
	serviceGroup = "q"
	othersGroup  = "others"

	broadcastGroup = "broadcasts" // the place of broadcasts, which have no queue group
)

// Options describe a runner in the NATS service API. The service's name is the namespace.
type Options struct {
	Version     string // one that is not semantic is reported as 0.0.0
	Description string
	Metadata    map[string]string
	Bound       int // requests of one verb, the first token, that are answered at the same time; what is above is refused

	// OthersSubjects are subjects behind "<namespace>.api.", mostly with wildcards, whose requests Others gets as well:
	// it returns what to answer to one that no endpoint takes, and nil, for no answer, to one that some runner's does.
	OthersSubjects []string
	Others         func(ctx context.Context, request *Request) error

	Broadcasts []Broadcast
}

// Broadcast answers requests that every runner with this subject gets. They are answered until all work has ended, also while
// the runner drains. The service API, which ends earlier, does not list them.
type Broadcast struct {
	Subject string // behind "<namespace>.api."
	// Handle returns the answer, as one or more messages.
	Handle func(request *Request) ([][]byte, error)
}

// Endpoint answers requests on one subject.
type Endpoint struct {
	Name     string
	Subject  string // behind "<namespace>.api."; its last tokens may be wildcards
	Group    string // of runners of which one answers; empty: all that have this endpoint
	Metadata map[string]string
	// Handle returns the answer. A *Error is answered as it is, any other error as one of ours.
	Handle func(ctx context.Context, request *Request) ([]byte, error)
}

// Request is one request. Nothing of it may be changed.
type Request struct {
	Tokens  []string // of the subject, behind "<namespace>.api."
	Headers map[string][]string
	Body    []byte

	reply string
}

// Header returns the first value of a header, empty if there is none.
func (r *Request) Header(name string) string { return nats.Header(r.Headers).Get(name) }

// Error is an error as the NATS service API answers it: status and message in headers, and a body.
type Error struct {
	Status  int // as in HTTP
	Message string
	Body    []byte
}

func (e *Error) Error() string { return e.Message + " (" + strconv.Itoa(e.Status) + ")" }

// The statuses of errors that the service answers by itself.
const (
	statusInternal    = 500
	statusUnavailable = 503
)

// Service is a runner in the NATS service API.
type Service struct {
	conn   *bus.Conn
	added  micro.Service
	others []*nats.Subscription
	opts   Options
	places map[string]chan struct{} // by verb, so that one cannot crowd out another; the map is never changed
	counts map[string]*counts       // by endpoint; this neither

	broadcasts []*nats.Subscription

	mu       sync.Mutex
	requests group // until the intake ends
	asked    group // broadcasts, until the work ends
}

// group is what is being answered.
type group struct {
	ending bool
	busy   sync.WaitGroup
}

// counts are what the library cannot count, as it does not see the answers.
type counts struct {
	answered, failed, refused, nanoseconds atomic.Int64
}

// stats are the counts as `nats service stats` gets them.
type stats struct {
	Answered int64 `json:"answered"` // errors too
	Failed   int64 `json:"failed"`   // answered with an error
	Refused  int64 `json:"refused"`  // too many at the same time
	Average  int64 `json:"average_answer_time"`
}

// Open starts to answer requests, those under way as long as work lives. An error: nothing was opened. The caller that
// opens a service runs it.
func Open(work context.Context, c *bus.Conn, opts Options, endpoints []Endpoint) (*Service, error) {
	s := newService(c, opts, endpoints)
	added, err := micro.AddService(c.NATS(), micro.Config{
		Name: c.Subjects().Namespace, Version: semanticVersion(opts.Version), Description: opts.Description, Metadata: opts.Metadata,
		StatsHandler: func(e *micro.Endpoint) any { return s.counts[e.Name].stats() },
	})
	if err != nil {
		return nil, fmt.Errorf("add the NATS service: %w", bus.ClosedAs(err))
	}
	s.added = added
	if err := s.subscribe(work, endpoints); err != nil {
		s.stop()
		s.stopBroadcasts()
		return nil, fmt.Errorf("open the NATS service: %w", bus.ClosedAs(err))
	}
	if err := c.NATS().FlushTimeout(c.Options().ConnectTimeout); err != nil {
		c.Log().Debug("NATS service opened while disconnected", zap.Error(err))
	}
	return s, nil
}

// leaveTimeout bounds the wait for the server's word that we left.
const leaveTimeout = time.Second

// Run waits until intake ends, then takes no more requests, and returns when those under way are answered and work has ended.
// It returns nil.
func (s *Service) Run(intake, work context.Context) error {
	<-intake.Done()
	s.stop()
	<-work.Done()
	s.stopBroadcasts()
	return nil
}

func (s *Service) stopBroadcasts() {
	s.end(&s.asked)
	drain(s.broadcasts)
	s.leave()
	s.asked.busy.Wait()
}

func (s *Service) stop() {
	s.end(&s.requests)
	drain(s.others)
	if err := s.added.Stop(); err != nil {
		s.conn.Log().Debug("NATS service not stopped cleanly", zap.Error(err))
	}
	s.leave()
	s.requests.busy.Wait()
}

func drain(subscriptions []*nats.Subscription) {
	for _, sub := range subscriptions {
		_ = sub.Drain() // fails only where the connection is closed
	}
}

// leave returns when the server has removed the drained subscriptions: from now on it sends requests to other runners, or
// reports that there is none. Those that came before are refused, so that no requester waits for an answer in vain.
func (s *Service) leave() {
	if s.conn.NATS().IsConnected() {
		_ = s.conn.NATS().FlushTimeout(leaveTimeout)
	}
}

func newService(c *bus.Conn, opts Options, endpoints []Endpoint) *Service {
	s := &Service{conn: c, opts: opts, places: make(map[string]chan struct{}), counts: make(map[string]*counts)}
	s.places[othersGroup] = make(chan struct{}, opts.Bound)
	for i := range endpoints {
		e := &endpoints[i]
		s.counts[e.Name] = &counts{}
		if s.places[e.verb()] == nil {
			s.places[e.verb()] = make(chan struct{}, opts.Bound)
		}
	}
	if len(opts.Broadcasts) > 0 {
		s.places[broadcastGroup] = make(chan struct{}, opts.Bound)
	}
	return s
}

func (e *Endpoint) verb() string {
	verb, _, _ := strings.Cut(e.Subject, ".")
	return verb
}

func (s *Service) subscribe(work context.Context, endpoints []Endpoint) error {
	for i := range endpoints {
		if err := s.add(work, &endpoints[i]); err != nil {
			return err
		}
	}
	for _, subject := range s.opts.OthersSubjects {
		sub, err := s.conn.NATS().QueueSubscribe(s.conn.Subjects().API(subject), othersGroup, func(m *nats.Msg) { s.other(work, m) })
		if err != nil {
			return err
		}
		s.others = append(s.others, sub)
	}
	for i := range s.opts.Broadcasts {
		b := &s.opts.Broadcasts[i]
		sub, err := s.conn.NATS().Subscribe(s.conn.Subjects().API(b.Subject), func(m *nats.Msg) { s.broadcast(b, m) })
		if err != nil {
			return err
		}
		s.broadcasts = append(s.broadcasts, sub)
	}
	return nil
}

func (s *Service) add(work context.Context, e *Endpoint) error {
	group := e.Group
	if group == "" {
		group = serviceGroup
	}
	handler := func(r micro.Request) {
		s.take(work, e, &Request{
			Tokens: s.tokens(r.Subject()), Headers: r.Headers(), Body: r.Data(), reply: r.Reply(),
		})
	}
	return s.added.AddEndpoint(e.Name, micro.HandlerFunc(handler), micro.WithEndpointSubject(s.conn.Subjects().API(e.Subject)),
		micro.WithEndpointQueueGroup(group), micro.WithEndpointMetadata(e.Metadata))
}

func (s *Service) tokens(subject string) []string {
	return strings.Split(strings.TrimPrefix(subject, s.conn.Subjects().API("")), ".")
}

// take answers a request in a goroutine of its own, if there is a place for it. Answers do not go through the library,
// which cannot have them from another goroutine and would publish them anywhere.
func (s *Service) take(work context.Context, e *Endpoint, r *Request) {
	if r.Header(contract.HeaderProbe) != "" {
		return // the probe only asks whether a runner could answer
	}
	counts := s.counts[e.Name]
	if err := s.conn.CheckReply(r.reply); err != nil {
		s.conn.Log().Warn("request rejected; nothing done", zap.Strings("request", r.Tokens), zap.Error(err))
		return
	}
	accepted := s.begin(&s.requests, e.verb(), func() {
		asked := time.Now()
		body, err := e.Handle(work, r)
		counts.answered.Add(1)
		counts.nanoseconds.Add(int64(time.Since(asked)))
		if err != nil {
			counts.failed.Add(1)
		}
		s.answer(r, body, err)
	})
	if !accepted {
		counts.refused.Add(1)
		s.answer(r, nil, unavailable())
	}
}

func unavailable() *Error {
	return &Error{Status: statusUnavailable, Message: "the runner has too many requests or is stopping; nothing was done; retry"}
}

// broadcast answers a request that every runner gets. One without a reply subject of its own is dropped.
func (s *Service) broadcast(b *Broadcast, m *nats.Msg) {
	r := &Request{Tokens: s.tokens(m.Subject), Headers: m.Header, Body: m.Data, reply: m.Reply}
	if err := s.conn.CheckReply(r.reply); err != nil {
		s.conn.Log().Warn("request rejected; nothing done", zap.Strings("request", r.Tokens), zap.Error(err))
		return
	}
	accepted := s.begin(&s.asked, broadcastGroup, func() {
		parts, err := b.Handle(r)
		if err != nil {
			s.answer(r, nil, err)
		}
		for _, part := range parts {
			s.answer(r, part, nil)
		}
	})
	if !accepted {
		s.answer(r, nil, unavailable())
	}
}

// other answers a request that no runner has an endpoint for.
func (s *Service) other(work context.Context, m *nats.Msg) {
	r := &Request{Tokens: s.tokens(m.Subject), Headers: m.Header, reply: m.Reply}
	if s.conn.CheckReply(r.reply) != nil {
		return // the endpoint reports it, or there is no requester
	}
	s.begin(&s.requests, othersGroup, func() {
		if err := s.opts.Others(work, r); err != nil {
			s.answer(r, nil, err)
		}
	})
}

// begin does something in a goroutine of its own unless too much is done or its group ends.
func (s *Service) begin(g *group, verb string, do func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.ending {
		return false
	}
	places := s.places[verb]
	select {
	case places <- struct{}{}:
	default:
		return false
	}
	g.busy.Go(func() {
		defer func() { <-places }()
		do()
	})
	return true
}

// end lets nothing of a group begin any more.
func (s *Service) end(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.ending = true
}

func (s *Service) answer(r *Request, body []byte, err error) {
	m := &nats.Msg{Subject: r.reply, Data: body}
	if err != nil {
		known, ok := errors.AsType[*Error](err)
		if !ok {
			s.conn.Log().Error("request failed", zap.Strings("request", r.Tokens), zap.Error(err))
			known = &Error{Status: statusInternal, Message: "internal error; see the runner's log"}
		}
		m.Data = known.Body
		m.Header = nats.Header{micro.ErrorHeader: {known.Message}, micro.ErrorCodeHeader: {strconv.Itoa(known.Status)}}
	}
	if err := s.conn.NATS().PublishMsg(m); err != nil {
		s.conn.Log().Warn("reply to request not sent", zap.Strings("request", r.Tokens), zap.Error(err))
	}
}

func (c *counts) stats() stats {
	if c == nil {
		return stats{}
	}
	out := stats{Answered: c.answered.Load(), Failed: c.failed.Load(), Refused: c.refused.Load()}
	if out.Answered > 0 {
		out.Average = c.nanoseconds.Load() / out.Answered
	}
	return out
}

// probeTimeout is how long the servers may take to report that nothing listens.
const probeTimeout = 500 * time.Millisecond

// Answers reports whether some runner answers requests on a path. It asks none of them: the servers know.
func Answers(ctx context.Context, c *bus.Conn, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := c.NATS().RequestMsgWithContext(ctx, &nats.Msg{Subject: c.Subjects().API(path), Header: nats.Header{contract.HeaderProbe: {"1"}}})
	return !errors.Is(err, nats.ErrNoResponders)
}

var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// semanticVersion is a version as the service API takes it.
func semanticVersion(version string) string {
	if version = strings.TrimPrefix(version, "v"); semantic.MatchString(version) {
		return version
	}
	return "0.0.0"
}

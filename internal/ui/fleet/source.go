package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/client"
	"dbrunner/contract"
)

// Source is where the page reads: one connection to NATS with its user's permissions.
type Source struct {
	Client   *client.Client
	Subjects contract.Subjects
	API      string // prefix of JetStream's API

	nc *nats.Conn

	mu       sync.Mutex
	offset   time.Duration          // of the server's clock from ours
	lost     time.Time              // since when the connection is lost; zero: it is not
	watchers map[*func(string)]bool // called with each subject that the server refuses
}

// NewSource returns a source on a connection, whose error handler it replaces.
func NewSource(nc *nats.Conn, namespace, domain string) (*Source, error) {
	c, err := client.New(nc, client.Options{Namespace: namespace, Domain: domain})
	if err != nil {
		return nil, err
	}
	s := &Source{Client: c, Subjects: contract.Subjects{Namespace: namespace}, API: "$JS.API.", nc: nc}
	if domain != "" {
		s.API = "$JS." + domain + ".API."
	}
	nc.SetErrorHandler(s.onError)
	return s, nil
}

// onError passes on what the server refuses: it answers such a publish with an error of the connection, and the request with nothing.
func (s *Source) onError(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	_, rest, _ := strings.Cut(err.Error(), `"`)
	subject, _, _ := strings.Cut(rest, `"`)
	s.mu.Lock()
	defer s.mu.Unlock()
	for watch := range s.watchers {
		(*watch)(subject)
	}
}

// UnlessDenied calls do, whose context ends if the server refuses one of the subjects. what is what cannot be read then.
func (s *Source) UnlessDenied(ctx context.Context, what string, subjects []string, do func(context.Context) error) error {
	if up, _ := s.Connected(); !up {
		return ErrLost
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := func(subject string) {
		if slices.Contains(subjects, subject) {
			cancel(&DeniedError{subject, what})
		}
	}
	s.mu.Lock()
	if s.watchers == nil {
		s.watchers = map[*func(string)]bool{}
	}
	s.watchers[&watch] = true
	s.mu.Unlock()
	err := do(ctx)
	s.mu.Lock()
	delete(s.watchers, &watch)
	s.mu.Unlock()
	if denied, ok := errors.AsType[*DeniedError](context.Cause(ctx)); ok {
		return denied
	}
	return err
}

// Connected reports whether the connection to NATS is up, and since when it is not.
func (s *Source) Connected() (bool, time.Time) {
	up := s.nc.Status() == nats.CONNECTED
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case up:
		s.lost = time.Time{}
	case s.lost.IsZero():
		s.lost = time.Now()
	}
	return up, s.lost
}

// Now is the time by the server's clock, with which everything that streams report is compared.
func (s *Source) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset)
}

// ErrLost is returned while NATS cannot be reached.
var ErrLost = errors.New("the connection to NATS is lost")

// DeniedError names the subject that the server's permissions refuse.
type DeniedError struct{ Subject, What string }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("This user may not read %s (no permission to publish %s)", e.What, e.Subject)
}

// StreamInfo is the state of a stream.
type StreamInfo struct {
	Created time.Time              `json:"created"`
	Now     time.Time              `json:"ts"`
	Config  jetstream.StreamConfig `json:"config"`
	State   struct {
		Messages   uint64    `json:"messages"`
		Bytes      uint64    `json:"bytes"`
		FirstSeq   uint64    `json:"first_seq"`
		FirstTime  time.Time `json:"first_ts"`
		LastSeq    uint64    `json:"last_seq"`
		NumDeleted uint64    `json:"num_deleted"`
		Deleted    []uint64  `json:"deleted"`
	} `json:"state"`
}

// Info asks for the state of a stream, and reads the server's clock out of the answer.
func (s *Source) Info(ctx context.Context, stream string, request any) (*StreamInfo, error) {
	var info StreamInfo
	asked := time.Now()
	if err := s.Ask(ctx, "STREAM.INFO."+stream, stream, request, &info); err != nil {
		return nil, err
	}
	if took := time.Since(asked); !info.Now.IsZero() && took < time.Second {
		s.mu.Lock()
		s.offset = info.Now.Sub(asked.Add(took / 2))
		s.mu.Unlock()
	}
	return &info, nil
}

// APIError is an error that the JetStream API answered.
type APIError struct {
	Code        int    `json:"code"`
	Description string `json:"description"`
}

func (e *APIError) Error() string { return "JetStream: " + e.Description }

// NotFound is the code of an APIError about what is not there.
const NotFound = 404

// IsMissing reports whether JetStream answered that something is not there.
func IsMissing(err error) bool {
	e, ok := errors.AsType[*APIError](err)
	return ok && e.Code == NotFound
}

// Ask sends a request to the JetStream API, once.
func (s *Source) Ask(ctx context.Context, call, what string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	subject := s.API + call
	return s.UnlessDenied(ctx, what, []string{subject}, func(ctx context.Context) error {
		m, err := s.nc.RequestWithContext(ctx, subject, body)
		if errors.Is(err, nats.ErrNoResponders) {
			return errors.New("JetStream does not answer")
		}
		if err != nil {
			return err
		}
		var failed struct {
			Error *APIError `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &failed); err != nil {
			return fmt.Errorf("read the answer to %s: %w", call, err)
		}
		if failed.Error != nil {
			return failed.Error
		}
		return json.Unmarshal(m.Data, response)
	})
}

// Messages reads messages of a stream.
func (s *Source) Messages(ctx context.Context, request client.MessagesRequest, each func(*client.Message) error) error {
	err := s.UnlessDenied(ctx, request.Stream, []string{s.API + "DIRECT.GET." + request.Stream}, func(ctx context.Context) error {
		return client.Messages(ctx, s.Client, request, each)
	})
	switch {
	case errors.Is(err, client.ErrDenied):
		return &DeniedError{s.API + "DIRECT.GET." + request.Stream, request.Stream}
	case errors.Is(err, client.ErrStreamMissing):
		return &APIError{Code: NotFound, Description: "the stream " + request.Stream + " is missing"}
	}
	return err
}

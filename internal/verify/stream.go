package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Bounds of one page of messages.
const (
	pageMessages = 256
	pageBytes    = 4 << 20
)

// requestTimeout bounds one request to the server, and the silence between two messages of a page.
const requestTimeout = 10 * time.Second

// requestAttempts is how often a request is sent until it has an answer.
const requestAttempts = 3

// jetStream reads streams. Its requests change nothing.
type jetStream struct {
	conn   *nats.Conn
	prefix string // of the JetStream API
}

// stored is a message of a stream.
type stored struct {
	subject string
	seq     uint64
	at      time.Time
	header  nats.Header
	data    []byte
}

// streamState is what a stream says of itself.
type streamState struct {
	Created time.Time `json:"created"`
	At      time.Time `json:"ts"` // the server's clock
	Config  struct {
		MaxAge time.Duration `json:"max_age"`
		Direct bool          `json:"allow_direct"`
	} `json:"config"`
	State struct {
		Messages  uint64    `json:"messages"`
		FirstSeq  uint64    `json:"first_seq"`
		FirstTime time.Time `json:"first_ts"`
		LastSeq   uint64    `json:"last_seq"`
	} `json:"state"`
}

// apiError is an error that JetStream answered.
type apiError struct {
	Code    int    `json:"err_code"`
	Message string `json:"description"`
}

func (e *apiError) Error() string { return e.Message }

// The codes of errors that mean that there is no such thing.
const (
	noMessage = 10037
	noStream  = 10059
)

func hasCode(err error, code int) bool {
	var e *apiError
	return errors.As(err, &e) && e.Code == code
}

// call makes a request of the JetStream API, again while no answer comes: the leader may be changing.
func (j *jetStream) call(ctx context.Context, call string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	for attempt := 1; ; attempt++ {
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		m, err := j.conn.RequestWithContext(limited, j.prefix+call, body)
		cancel()
		if err == nil {
			return decode(call, m.Data, response)
		}
		if attempt == requestAttempts || ctx.Err() != nil {
			return fmt.Errorf("%s%s: no answer: %w; is the stream there, and may this user make the request?", j.prefix, call, err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

func decode(call string, answer []byte, response any) error {
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(answer, &failed), json.Unmarshal(answer, response)); err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	if failed.Error != nil {
		return fmt.Errorf("%s: %w", call, failed.Error)
	}
	return nil
}

// state asks the leader of a stream; nil if there is no such stream.
func (j *jetStream) state(ctx context.Context, stream string) (*streamState, error) {
	s := &streamState{}
	err := j.call(ctx, "STREAM.INFO."+stream, struct{}{}, s)
	if hasCode(err, noStream) {
		return nil, nil
	}
	return s, err
}

// getRequest names a message: by its sequence, as the next one from there, or as the last one of a subject.
type getRequest struct {
	Seq     uint64 `json:"seq,omitempty"`
	NextFor string `json:"next_by_subj,omitempty"`
	LastFor string `json:"last_by_subj,omitempty"`
}

// get asks the leader of a stream for a message; nil if it has none.
func (j *jetStream) get(ctx context.Context, stream string, request getRequest) (*stored, error) {
	var answer struct {
		Message struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Time    time.Time `json:"time"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
		} `json:"message"`
	}
	err := j.call(ctx, "STREAM.MSG.GET."+stream, request, &answer)
	if hasCode(err, noMessage) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := answer.Message
	out := &stored{subject: m.Subject, seq: m.Seq, at: m.Time, data: m.Data}
	if len(m.Header) > 0 {
		out.header, err = nats.DecodeHeadersMsg(m.Header)
	}
	return out, err
}

// page reads the next messages of a stream from a sequence on, up to another one, and hands them over one by one. Any replica
// may answer, and it may lag behind: where it has no more, the leader is asked. next is where the following page starts; 0:
// there is none.
func (j *jetStream) page(ctx context.Context, stream string, from, last uint64, each func(*stored) error) (next uint64, err error) {
	if from > last {
		return 0, nil
	}
	var got uint64
	for attempt := 1; ; attempt++ {
		got, err = j.batch(ctx, stream, from, func(m *stored) error {
			if m.seq > last {
				return nil
			}
			return each(m)
		})
		if !errors.Is(err, errNoAnswer) || attempt == requestAttempts {
			break
		}
		if err := pause(ctx, time.Second); err != nil {
			return 0, err
		}
	}
	if err != nil {
		return 0, err
	}
	if got > 0 {
		return got + 1, nil
	}
	m, err := j.get(ctx, stream, getRequest{Seq: from, NextFor: ">"})
	if m == nil || err != nil || m.seq > last {
		return 0, err
	}
	return m.seq + 1, each(m)
}

var errNoAnswer = errors.New("no answer")

// batch reads messages by one direct get, and returns the sequence of the last one; 0: there was none.
func (j *jetStream) batch(ctx context.Context, stream string, from uint64, each func(*stored) error) (last uint64, err error) {
	inbox := j.conn.NewInbox()
	answers := make(chan *nats.Msg, 2*pageMessages) // with room for a page: a channel of the library's takes half a MiB
	sub, err := j.conn.ChanSubscribe(inbox, answers)
	if err != nil {
		return 0, fmt.Errorf("subscribe to an inbox: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	// Without a filter: with one, the server counts for each request the messages that fit, over all subjects.
	request, err := json.Marshal(map[string]any{"seq": from, "batch": pageMessages, "max_bytes": pageBytes})
	if err != nil {
		return 0, fmt.Errorf("encode a request: %w", err)
	}
	if err := j.conn.PublishRequest(j.prefix+"DIRECT.GET."+stream, inbox, request); err != nil {
		return 0, fmt.Errorf("request messages of %s: %w", stream, err)
	}
	for {
		m, err := nextOf(ctx, answers)
		switch {
		case err != nil && ctx.Err() != nil:
			return 0, interrupted(ctx)
		case err != nil && last == 0:
			return 0, fmt.Errorf("%sDIRECT.GET.%s: %w: %w; may this user make the request?", j.prefix, stream, errNoAnswer, err)
		case err != nil, m.Header.Get("Status") != "":
			return last, nil // what has arrived is complete up to there
		}
		next := &stored{subject: m.Header.Get("Nats-Subject"), header: m.Header, data: m.Data}
		next.seq, err = strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err == nil {
			next.at, err = time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
		}
		if err != nil {
			return 0, fmt.Errorf("a message of %s without its sequence and time: %w", stream, err)
		}
		if err := each(next); err != nil {
			return 0, err
		}
		last = next.seq
	}
}

// nextOf waits for the next answer.
func nextOf(ctx context.Context, answers <-chan *nats.Msg) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	select {
	case m := <-answers:
		if m.Header.Get("Status") == "503" {
			return nil, nats.ErrNoResponders
		}
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// firstSince is the sequence of the first message that was stored at a time or later.
func (j *jetStream) firstSince(ctx context.Context, stream string, s *streamState, since time.Time) (uint64, error) {
	low, high := max(s.State.FirstSeq, 1), s.State.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		m, err := j.get(ctx, stream, getRequest{Seq: middle, NextFor: ">"})
		if err != nil {
			return 0, err
		}
		if m != nil && m.at.Before(since) {
			low = m.seq + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

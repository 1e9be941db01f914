package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StreamInfo asks for a stream; ErrNotFound if there is none.
func StreamInfo(ctx context.Context, c *Conn, stream string) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	if err := c.APIRetry(ctx, "STREAM.INFO."+stream, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}

// ConsumerInfo asks for a consumer; ErrNotFound if there is none.
func ConsumerInfo(ctx context.Context, c *Conn, stream, name string) (*jetstream.ConsumerInfo, error) {
	var info jetstream.ConsumerInfo
	if err := c.APIRetry(ctx, "CONSUMER.INFO."+stream+"."+name, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}

// Filters returns the subjects that a consumer delivers.
func Filters(c *jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return append([]string{c.FilterSubject}, c.FilterSubjects...)
	}
	return c.FilterSubjects
}

// StoredMessage is a message as the API shows it.
type StoredMessage struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Headers  []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
	Time     time.Time `json:"time"`
}

// GetRequest asks for one message of a stream: by sequence, the last of a subject, or the next of a subject
// from a sequence on.
type GetRequest struct {
	Sequence uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
}

// GetMessage reads from the stream's leader, nil if there is no such message.
func GetMessage(ctx context.Context, c *Conn, stream string, request GetRequest) (*StoredMessage, error) {
	var answer struct {
		Message *StoredMessage `json:"message"`
	}
	err := c.APIRetry(ctx, "STREAM.MSG.GET."+stream, request, &answer)
	if HasCode(err, CodeNoMessage) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return answer.Message, nil
}

// DirectGet sends a direct get and returns the message; nil if there is none. Any replica answers it, which may not have the
// newest messages.
func DirectGet(ctx context.Context, c *Conn, subject string, request []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, APITimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, request)
	if err != nil {
		return nil, fmt.Errorf("direct get: %w", err)
	}
	if found, err := FoundDirect(m); !found || err != nil {
		return nil, err
	}
	return m, nil
}

// FoundDirect reports whether the answer to a direct get holds a message.
func FoundDirect(m *nats.Msg) (found bool, _ error) {
	switch status := m.Header.Get("Status"); {
	case m.Header.Get("Nats-Sequence") != "":
		return true, nil
	case status == "404":
		return false, nil
	default:
		return false, fmt.Errorf("direct get: status %s %s", status, m.Header.Get("Description"))
	}
}

// ControlSubject is where a key of the bucket is published to.
func ControlSubject(c *Conn, key string) string {
	return c.inDomain(ControlKey(c.subjects, key))
}

// StateSubject is where a key of the bucket of pauses is published to.
func StateSubject(c *Conn, key string) string { return c.inDomain(StateKey(c.subjects, key)) }

// SchedulesSubject is where a key of the bucket of schedules is published to.
func SchedulesSubject(c *Conn, key string) string { return c.inDomain(SchedulesKey(c.subjects, key)) }

// inDomain is where a subject of a bucket is published to: $KV.> stays inside a domain.
func (c *Conn) inDomain(subject string) string {
	if c.opts.Domain != "" {
		subject = c.apiPrefix + subject
	}
	return subject
}

package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

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
func (c *Conn) GetMessage(ctx context.Context, stream string, request GetRequest) (*StoredMessage, error) {
	var answer struct {
		Message *StoredMessage `json:"message"`
	}
	err := c.RequestRetry(ctx, "STREAM.MSG.GET."+stream, request, &answer)
	if hasCode(err, codeNoMessage) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return answer.Message, nil
}

// DirectGet reads a message from any replica, which may not have the newest ones; nil if there is no such message.
func (c *Conn) DirectGet(ctx context.Context, stream string, request GetRequest) (*nats.Msg, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return c.directGet(ctx, c.apiPrefix+"DIRECT.GET."+stream, body)
}

func (c *Conn) directGet(ctx context.Context, subject string, request []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, request)
	if err != nil {
		return nil, fmt.Errorf("direct get: %w", err)
	}
	if found, err := isFound(m); !found || err != nil {
		return nil, err
	}
	return m, nil
}

// isFound reports whether the answer to a direct get holds a message.
func isFound(m *nats.Msg) (bool, error) {
	switch status := m.Header.Get("Status"); {
	case m.Header.Get("Nats-Sequence") != "":
		return true, nil
	case status == "404":
		return false, nil
	default:
		return false, fmt.Errorf("direct get: status %s %s", status, m.Header.Get("Description"))
	}
}

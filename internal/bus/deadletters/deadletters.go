package deadletters

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// Bounds of a dead letter's headers.
const (
	maxHeaderValue = 16 << 10
	cutMark        = " [cut]"
)

// Publish stores a dead letter and returns when it is stored: the body unchanged, the headers as data.
// Values above 16 KiB are cut with a mark, headers that JetStream would obey get the prefix contract.HeaderOriginal, and
// what does not fit into the server's largest message is left out and counted. Publishing the same dead letter again
// replaces it, so this repeats until the context ends while the outcome is not known.
func Publish(
	ctx context.Context, c *bus.Conn, database, kind, derivedID string, headers map[string][]string, body []byte,
) error {
	err := errors.Join(bus.CheckName("database", database), bus.CheckName("kind", kind), bus.CheckID(derivedID))
	if err != nil {
		return err
	}
	msg := nats.Msg{
		Subject: c.Subjects().DeadLetter(database, kind, derivedID),
		Header:  deadLetterHeaders(headers, c.MaxPayload()-len(body)),
		Data:    body,
	}
	err = c.PublishCertainly(ctx, &msg)
	if err != nil {
		return fmt.Errorf("publish the dead letter: %w", err)
	}
	return nil
}

// deadLetterHeaders fits headers into the room. Ours come first.
func deadLetterHeaders(headers map[string][]string, room int) nats.Header {
	const lineOverhead, frame = 4, 128 // ": " and CR LF of each line; first line, last line and the count
	room -= frame
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if ours(a) != ours(b) {
			if ours(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	out := make(nats.Header, len(names))
	dropped := 0
	for _, name := range names {
		target := deadLetterHeader(name)
		for _, value := range headers[name] {
			value = cutValue(value)
			size := len(target) + len(value) + lineOverhead
			if size > room || target == "" {
				dropped++
				continue
			}
			room -= size
			out[target] = append(out[target], value)
		}
	}
	if dropped > 0 {
		out[contract.HeaderDropped] = []string{fmt.Sprint(dropped)}
	}
	return out
}

// ours separates the runner's own headers of a dead letter from the job's, which may look like them.
func ours(header string) bool {
	return strings.HasPrefix(header, contract.HeaderPrefix) && !strings.HasPrefix(header, contract.HeaderOriginal)
}

// deadLetterHeader keeps the server from obeying a job's header again, now in a dead letter. A name that no header can
// have gives "".
func deadLetterHeader(name string) string {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == ':' {
			return ""
		}
	}
	if name == "" {
		return ""
	}
	lower := strings.ToLower(name)
	if strings.HasPrefix(lower, "nats-") || lower == "status" || lower == "description" {
		return contract.HeaderOriginal + name
	}
	return name
}

func cutValue(value string) string {
	if len(value) <= maxHeaderValue {
		return value
	}
	return strings.ToValidUTF8(value[:maxHeaderValue-len(cutMark)], "") + cutMark
}

// State is how the stream of dead letters is.
type State struct {
	DeadLetters uint64
	Bytes       uint64
	MaxBytes    uint64 // 0 = no limit
	Oldest      time.Time
	// Removed counts the dead letters that were there once: evicted by size or age, re-driven or replaced.
	Removed uint64
	// Evicted counts those that the watch saw go because the stream was full.
	Evicted uint64
}

// Watch counts the dead letters that go because their stream is full.
type Watch struct {
	conn    *bus.Conn
	evicted atomic.Uint64
}

// NewWatch returns a watch that has counted none.
func NewWatch(conn *bus.Conn) *Watch { return &Watch{conn: conn} }

// State asks the server about the dead letters.
func (w *Watch) State(ctx context.Context) (State, error) {
	info, err := bus.StreamInfo(ctx, w.conn, w.conn.Subjects().DeadStream())
	if err != nil {
		return State{}, fmt.Errorf("dead letters: %w", err)
	}
	s := deadState(info)
	s.Evicted = w.evicted.Load()
	return s, nil
}

func deadState(info *jetstream.StreamInfo) State {
	return State{
		DeadLetters: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: uint64(max(info.Config.MaxBytes, 0)),
		Oldest: info.State.FirstTime, Removed: info.State.LastSeq - min(info.State.Msgs, info.State.LastSeq),
	}
}

// Run counts and reports evictions until the context ends. Dead letters that go while the stream is nearly full
// count as evicted; the others were re-driven or had reached their age.
func (w *Watch) Run(ctx context.Context, every time.Duration) error {
	t := time.NewTicker(every)
	defer t.Stop()
	var before *State
	for {
		before = w.lookForEvictions(ctx, before)
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *Watch) lookForEvictions(ctx context.Context, before *State) *State {
	now, err := w.State(ctx)
	if err != nil {
		return before
	}
	if before != nil && now.Removed > before.Removed && now.MaxBytes > 0 && float64(now.Bytes) > 0.9*float64(now.MaxBytes) {
		n := now.Removed - before.Removed
		w.evicted.Add(n)
		w.conn.Log().Error("dead letter stream full; evicting the oldest",
			zap.Uint64("evicted", n), zap.Uint64("dead_letters", now.DeadLetters))
	}
	return &now
}

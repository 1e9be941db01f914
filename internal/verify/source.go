package verify

import (
	"context"
	"time"
)

// source is what NATS has of one database.
type source struct {
	names
	js *jetStream
}

// storedResult is a result as it is stored.
type storedResult struct {
	key  string // the last token of its subject
	at   time.Time
	seq  uint64 // in the results stream
	head head
	err  error  // it is no result
	body []byte // only of one that was read by itself
	sum  [32]byte
}

func (s *source) resultOf(m *stored) *storedResult {
	r := &storedResult{key: m.subject[len(s.result("")):], at: m.at, seq: m.seq, sum: digestOf(m.data)}
	r.head, r.err = readHead(m.data)
	return r
}

// readResult reads the stored result of an id from the leader; nil if there is none.
func (s *source) readResult(ctx context.Context, id string) (*storedResult, error) {
	m, err := s.js.get(ctx, s.results(), getRequest{LastFor: s.result(id)})
	if m == nil || err != nil {
		return nil, err
	}
	r := s.resultOf(m)
	r.body = m.data
	return r, nil
}

// resultOfMessage finds the result of a message: under its job's id or under the derived one. other: another message's is
// under the job's id.
func (s *source) resultOfMessage(ctx context.Context, id string, of message) (found, other *storedResult, err error) {
	for _, key := range []string{id, of.derived()} {
		r, err := s.readResult(ctx, key)
		if err != nil {
			return nil, nil, err
		}
		switch {
		case r == nil:
		case r.err == nil && r.head.message().equal(of):
			return r, other, nil
		case key == id:
			other = r
		}
		if id == of.derived() {
			break
		}
	}
	return nil, other, nil
}

// queued reports whether a message is still in the jobs stream.
func (s *source) queued(ctx context.Context, of message) (bool, error) {
	m, err := s.js.get(ctx, s.jobs(), getRequest{Seq: of.sequence})
	return m != nil && m.at.Equal(of.at), err
}

// lastDelivered is the highest sequence that a consumer of the jobs stream has delivered.
func (s *source) lastDelivered(ctx context.Context) (last uint64, err error) {
	for offset := 0; ; {
		var list struct {
			Total     int `json:"total"`
			Consumers []struct {
				Delivered struct {
					Stream uint64 `json:"stream_seq"`
				} `json:"delivered"`
			} `json:"consumers"`
		}
		if err := s.js.call(ctx, "CONSUMER.LIST."+s.jobs(), map[string]int{"offset": offset}, &list); err != nil {
			return 0, err
		}
		for _, c := range list.Consumers {
			last = max(last, c.Delivered.Stream)
		}
		offset += len(list.Consumers)
		if len(list.Consumers) == 0 || offset >= list.Total {
			return last, nil
		}
	}
}

// keptSince returns the time since which a results stream is complete: whatever was stored later is there unless it was
// removed by hand. Streams lose messages by age, and runners' retention purges, from the front only.
func keptSince(results *streamState) time.Time {
	s := results.State
	switch {
	case s.FirstSeq <= 1:
		return results.Created
	case s.Messages > 0:
		return later(results.Created, s.FirstTime.Add(slack))
	case results.Config.MaxAge > 0:
		return later(results.Created, results.At.Add(slack-results.Config.MaxAge))
	default:
		return results.At
	}
}

// mayHaveExpired reports whether a result of a message may be gone by now. It is asked after the result was found missing:
// a result is stored after its message, so that all later messages' results are there.
func (s *source) mayHaveExpired(ctx context.Context, of message) (bool, error) {
	now, err := s.js.state(ctx, s.results())
	return now == nil || of.at.Before(keptSince(now)), err
}

// untouched reports whether nothing was ever removed from a stream.
func untouched(s *streamState) bool { return s != nil && s.State.Messages == s.State.LastSeq }

package fleet

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	recentKept  = 2000     // results that are searched, the newest
	recentChunk = 100      // sequences of one reading
	recentBytes = 32 << 20 // of results that are read at first
)

// Result is what the search keeps of a result.
type Result struct {
	Sequence uint64            `json:"-"`
	JobID    string            `json:"job_id"`
	Kind     string            `json:"kind"`
	Status   contract.Status   `json:"status"`
	Runner   string            `json:"runner"`
	Finished time.Time         `json:"finished_at"`
	Labels   map[string]string `json:"labels"`
	Error    *struct {
		Code string `json:"code"`
	} `json:"error"`
}

// Code is the code of the error; empty: there is none.
func (r *Result) Code() string {
	if r.Error == nil {
		return ""
	}
	return r.Error.Code
}

// CanBeApproved reports whether it is a dry run that an approval may commit.
func (r *Result) CanBeApproved() bool { return r.Kind == kindDryRun && r.Status == contract.Succeeded }

// Approvals are the approvals of a list, by the ids of their dry runs. They are newer than those.
func Approvals(list []Result) map[string]*Result {
	out := map[string]*Result{}
	for i := range list {
		if of, ok := strings.CutSuffix(list[i].JobID, contract.ApprovalID("")); ok && list[i].Kind == kindApprove {
			out[of] = &list[i]
		}
	}
	return out
}

// Recent are the newest results of each database that was searched.
type Recent struct {
	Source *Source
	all    kept[recentOf]
}

type recentOf struct {
	mu   sync.Mutex
	list []Result // by sequence
	next uint64
	made time.Time // the stream was created
}

// Of returns the newest results of a database, the newest first, and how many its stream has.
func (r *Recent) Of(ctx context.Context, database string) ([]Result, uint64, error) {
	d := r.all.of(database)
	d.mu.Lock()
	defer d.mu.Unlock()
	stream := r.Source.Subjects.ResultsStream(database)
	info, err := r.Source.Info(ctx, stream, struct{}{})
	if err != nil {
		return nil, 0, err
	}
	last, first := info.State.LastSeq, max(info.State.FirstSeq, 1)
	if !d.made.Equal(info.Created) || last+1 < d.next {
		d.list, d.next, d.made = nil, 0, info.Created
	}
	if d.next == 0 || last >= d.next+recentKept {
		if d.list, d.next, err = r.newest(ctx, stream, first, last); err != nil {
			return nil, 0, err
		}
	} else if last >= d.next { // what came after the last one is read later, once
		c, err := r.chunk(ctx, stream, d.next, last)
		if err != nil {
			return nil, 0, err
		}
		d.list, d.next = append(d.list, c.found...), max(d.next, c.last+1)
	}
	d.list = slices.DeleteFunc(d.list, func(e Result) bool { return e.Sequence < first })
	if over := len(d.list) - recentKept; over > 0 {
		d.list = slices.Clone(d.list[over:])
	}
	out := slices.Clone(d.list)
	slices.Reverse(out)
	return out, info.State.Messages, nil
}

// newest reads backwards from the end of a stream until there are enough, or they are large. next is the first sequence that was not
// read: a replica that lags behind does not have the last ones yet.
func (r *Recent) newest(ctx context.Context, stream string, first, last uint64) (list []Result, next uint64, err error) {
	next, total := last+1, 0
	for to := last; to >= first && to > 0 && len(list) < recentKept && total < recentBytes; {
		from := first
		if to > recentChunk {
			from = max(first, to-recentChunk+1)
		}
		c, err := r.chunk(ctx, stream, from, to)
		if err != nil {
			return nil, 0, err
		}
		if len(list) == 0 {
			next = max(c.last+1, from)
		}
		list, total, to = append(c.found, list...), total+c.bytes, from-1
	}
	return list, next, nil
}

// recentRead is what one reading has found.
type recentRead struct {
	found []Result
	last  uint64 // the last sequence that was read; 0: none was
	bytes int
}

func (r *Recent) chunk(ctx context.Context, stream string, from, to uint64) (c recentRead, err error) {
	request := client.MessagesRequest{Stream: stream, Subject: ">", From: from, To: to}
	err = r.Source.Messages(ctx, request, func(m *client.Message) error {
		c.last, c.bytes = m.Sequence, c.bytes+len(m.Data)
		e := Result{Sequence: m.Sequence}
		if json.Unmarshal(m.Data, &e) == nil {
			c.found = append(c.found, e)
		}
		return nil
	})
	return c, err
}

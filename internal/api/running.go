package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus/service"
)

// runningReserve is what a message with a part of an answer takes besides its jobs, in bytes: names of up to 64 bytes, keys and
// numbers, and the headers that a message may get on its way.
const runningReserve = 4 << 10

// running answers which jobs this runner has in flight on a database, in as many messages as that takes.
func (a *api) running(d *Database, q *service.Request) ([][]byte, error) {
	if err := checkNoBody(q); err != nil {
		return nil, err
	}
	jobs := d.Running()
	slices.SortFunc(jobs, func(x, y contract.RunningJob) int { return x.Since.Compare(y.Since) })
	answer := contract.RunningAnswer{
		Version: contract.Version, Runner: a.cfg.Instance, Process: a.process, Database: d.Name, At: time.Now().UTC(), InFlight: len(jobs),
	}
	return encodeRunning(&answer, jobs, a.conn.MaxPayload()-runningReserve)
}

// encodeRunning divides jobs among answers of which none has more than limit bytes of them.
func encodeRunning(answer *contract.RunningAnswer, jobs []contract.RunningJob, limit int) ([][]byte, error) {
	var parts [][]contract.RunningJob
	size, first := 0, 0
	for i := range jobs {
		encoded, err := json.Marshal(&jobs[i])
		if err != nil {
			return nil, fmt.Errorf("encode a job in flight: %w", err)
		}
		if size+len(encoded)+1 > limit && i > first {
			parts = append(parts, jobs[first:i])
			size, first = 0, i
		}
		size += len(encoded) + 1 // and a comma
	}
	parts = append(parts, jobs[first:])
	out := make([][]byte, len(parts))
	answer.Parts = len(parts)
	for i, part := range parts {
		answer.Part, answer.Jobs = i+1, append([]contract.RunningJob{}, part...) // no jobs are an empty list
		encoded, err := json.Marshal(answer)
		if err != nil {
			return nil, fmt.Errorf("encode jobs in flight: %w", err)
		}
		out[i] = encoded
	}
	return out, nil
}

// checkNoBody refuses a body: the subject has all that the request means.
func checkNoBody(q *service.Request) error {
	if body := strings.TrimSpace(string(q.Body)); body != "" && body != "{}" {
		return refuse(400, refusal{Code: "invalid_body", Message: "this request has no body: send an empty one"})
	}
	return nil
}

package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dbrunner/internal/bus"
	"dbrunner/internal/jobs"
)

// headerMessageID is in which a request names a job whose body has no id.
const headerMessageID = "Nats-Msg-Id"

// doorJob is a job on its way through the synchronous door.
type doorJob struct {
	database *database
	kind     string
	jobs.Examined
	request *bus.ServiceRequest
}

// runJob is the synchronous door: it publishes the request as a job, and answers with the job's stored result. The job
// outlives the request and the runner: who asks again with its id gets the result then.
func (a *api) runJob(ctx context.Context, d *database, q *bus.ServiceRequest) ([]byte, error) {
	j, err := a.doorJob(d, q)
	if err != nil {
		return nil, err
	}
	wait, err := a.waitOf(q, a.cfg.API.Wait)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sequence, _, err := a.conn.PublishJob(ctx, d.name, j.kind, j.ID, forwarded(q.Headers), q.Body)
	if err != nil {
		return nil, j.notPublished(ctx, err)
	}
	result, err := a.conn.AwaitResult(ctx, d.name, j.ID)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, j.refuse(504, "no_result_yet", true, "the job goes on, and its result will be stored under this id: send the same "+
			"request again, with the header "+headerMessageID+" if its body has no id")
	case err != nil:
		return nil, err
	default:
		return j.answer(sequence, result)
	}
}

// doorJob looks at what the door needs to know. What is wrong with a body otherwise is for the job's result to say.
func (a *api) doorJob(d *database, q *bus.ServiceRequest) (*doorJob, error) {
	j := &doorJob{database: d, kind: q.Tokens[2], request: q}
	var kinds []string
	for _, o := range policy(a.cfg, d.cfg).Offers() {
		kinds = append(kinds, o.Kind)
	}
	id := q.Header(headerMessageID)
	if id == "" {
		id = "api-" + strings.ToLower(rand.Text())
	}
	switch {
	case !a.cfg.API.Run:
		return nil, j.refuse(403, "door_closed", false, "these runners publish no jobs for others (api.run is off): publish to "+
			a.cfg.Namespace+".jobs."+d.name+".<kind> in JetStream")
	case !slices.Contains(kinds, j.kind):
		return nil, j.refuse(404, string(jobs.CodeKindNotAllowed), false, "the database runs no jobs of this kind; it runs "+strings.Join(kinds, ", "))
	case !jobs.ValidID(id):
		return nil, j.refuse(400, string(jobs.CodeInvalidID), false, "the header "+headerMessageID+" must be 1 to 100 of A-Z a-z 0-9 _ -, and not "+
			"in the form of the ids that runners make")
	}
	j.Examined = d.executor.Examine(d.name, j.kind, id, q.Body)
	switch {
	case j.InvalidID:
		j.ID = ""
		return nil, j.refuse(400, string(jobs.CodeInvalidID), false, "the id in the body must be 1 to 100 of A-Z a-z 0-9 _ -, and not in the form of "+
			"the ids that runners make; nothing was published")
	case j.ReplyOnly:
		return nil, j.refuse(400, string(jobs.CodeInvalidValue), false, `a job with "answer": "reply" has no stored result to be answered with: leave the key out; `+
			"nothing was published")
	}
	return j, nil
}

// forwarded are the headers of a request that its job gets: not those that JetStream or runners would obey.
func forwarded(headers map[string][]string) map[string][]string {
	out := make(map[string][]string, len(headers))
	for name, values := range headers {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "nats-") && !strings.HasPrefix(lower, ownPrefix) {
			out[name] = values
		}
	}
	return out
}

// notPublished says why there is no job, or that nobody knows whether there is.
func (j *doorJob) notPublished(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, bus.ErrTooLarge):
		return j.refuse(413, string(jobs.CodeTooLarge), false, "the body is larger than a job may be; nothing was published")
	case errors.Is(err, bus.ErrStreamFull):
		return j.refuse(503, "queue_full", true, "too many jobs wait for this database; nothing was published")
	case errors.Is(err, bus.ErrNoStream):
		return j.refuse(404, string(jobs.CodeKindNotAllowed), false, "no stream takes jobs of this kind for this database; nothing was published")
	case errors.Is(err, bus.ErrDenied):
		return j.refuse(503, "door_closed", false, "NATS does not let this runner publish jobs; its operators widen its permissions or "+
			"switch api.run off")
	case ctx.Err() != nil:
		return j.refuse(504, "not_known_yet", true, "JetStream did not answer in time whether it has the job: send the same request again, with "+
			"the header "+headerMessageID+" if its body has no id")
	default:
		return fmt.Errorf("publish for a request: %w", err)
	}
}

// answer looks whether the stored result is this job's: the id may have had one before.
func (j *doorJob) answer(sequence uint64, result []byte) ([]byte, error) {
	head, err := jobs.ReadResult(result)
	switch {
	case err != nil:
		return nil, fmt.Errorf("answer a request: %w", err)
	case head.Sequence == sequence:
		return result, nil
	case len(j.Hash) > 0 && bytes.Equal(head.Hash, j.Hash):
		return jobs.MarkDuplicate(result), nil
	default:
		return nil, j.refuse(409, string(jobs.CodeIDReused), false, "the id belongs to another request, whose result stays; write an id of its own")
	}
}

func (j *doorJob) refuse(status int, code string, retryable bool, message string) *bus.ServiceError {
	return refuse(status, refusal{Code: code, Message: message, Retryable: retryable, Database: j.database.name, JobID: j.ID})
}

package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/service"
)

// jobHeaderPrefix is what the names of a runner's own headers begin with, in lower case.
const jobHeaderPrefix = "dbrunner-"

// headerMessageID is in which a request names a job whose body has no id.
const headerMessageID = contract.HeaderMessageID

// runRequest is a job on its way through the run endpoint.
type runRequest struct {
	database *Database
	kind     string // with the name of what the job runs, where it has one: "call.pay"
	examined
	fresh bool // the id was made for this request: nothing else has it
}

// runJob is the run endpoint: it publishes the request as a job, and answers with the job's stored result. The job
// outlives the request and the runner: who asks again with its id gets the result then.
func (a *api) runJob(ctx context.Context, d *Database, q *service.Request) ([]byte, error) {
	j, err := a.runRequest(d, q)
	if err != nil {
		return nil, err
	}
	wait, err := a.waitOf(q, a.cfg.API.Wait)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if existing, err := j.existing(ctx); existing != nil || err != nil {
		return existing, err
	}
	sequence, duplicate, err := bus.PublishJob(ctx, a.conn, d.Name, j.kind, j.ID, forwarded(q.Headers), q.Body)
	if err != nil {
		return nil, j.notPublished(ctx, err)
	}
	var first *bus.QueuedJob
	if duplicate {
		if first, err = j.compareFirst(ctx, a.conn, sequence); err != nil {
			return nil, err
		}
	}
	result, err := j.await(ctx, a.conn)
	switch {
	case err != nil && ctx.Err() != nil:
		what := "the job goes on, and its result will be stored under this id"
		if duplicate && first == nil { // the first message left the queue before it could be compared with the request
			what = "the stream has taken a message with this id before and dropped this one; its result is not there yet"
		}
		if paused := d.Paused(q.Tokens[2]); paused != "" {
			what = "the database is " + paused + "; " + what
		}
		return nil, j.refuse(504, "no_result_yet", true, what+": send the same request again, with the header "+headerMessageID+" if its body has no id")
	case err != nil:
		return nil, err
	}
	head, err := contract.ReadHead(result)
	switch {
	case err != nil:
		return nil, fmt.Errorf("answer a request: %w", err)
	case !duplicate && head.Sequence == sequence && !j.contradicts(&head):
		return result, nil
	case !duplicate:
		return j.repeat(&head, result)
	// The stream has dropped our message: the result is the answer if it is the first message's, which was found to ask for
	// the same, or has the request's hash.
	case first != nil && head.SameMessage(first.Sequence, first.Timestamp), j.answeredBy(&head, result):
		return result, nil
	default:
		return nil, j.reused()
	}
}

// ledgerAfter is how long a request waits for its result before it looks for an earlier job of its id in the ledger.
const ledgerAfter = 2 * time.Second

// await waits for the result under the id. A different request's ledger row, which outlives its result, keeps the job from
// having one: then the request is refused.
func (j *runRequest) await(ctx context.Context, conn *bus.Conn) ([]byte, error) {
	after := ledgerAfter
	if end, bounded := ctx.Deadline(); bounded {
		after = min(after, time.Until(end)/3)
	}
	if j.Recorded && !j.fresh {
		first, cancel := context.WithTimeout(ctx, after)
		result, err := results.Await(first, conn, j.database.Name, j.ID)
		over := first.Err() != nil
		cancel()
		if err == nil || !over {
			return result, err
		}
		lookup, cancel := context.WithTimeout(ctx, after)
		row, err := j.database.Ledger.Lookup(lookup, j.ID) // an error proves nothing: the result may still come
		cancel()
		if err == nil && row != nil && !bytes.Equal(row.RequestHash, j.Hash) {
			return nil, j.reused()
		}
	}
	return results.Await(ctx, conn, j.database.Name, j.ID)
}

// existing answers with the result that the id has before anything is published; nil if it has none. What is stored
// later under the sequence of our message is ours: a result of an earlier stream, whose sequences were the same, would
// be there by now.
func (j *runRequest) existing(ctx context.Context) ([]byte, error) {
	if j.fresh {
		return nil, nil
	}
	results := j.database.Results
	if found, err := results.HasResult(ctx, j.ID); err == nil && !found {
		return nil, nil
	}
	existing, err := results.StoredResult(ctx, j.ID)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, j.refuse(504, "not_known_yet", true, "JetStream did not answer in time whether the id has a result already; nothing was "+
			"published: send the same request again, with the header "+headerMessageID+" if its body has no id")
	case err != nil:
		return nil, fmt.Errorf("look for an earlier result: %w", err)
	case existing == nil:
		return nil, nil
	}
	head, err := contract.ReadHead(existing)
	if err != nil {
		return nil, fmt.Errorf("answer a request: %w", err)
	}
	return j.repeat(&head, existing)
}

// compareFirst compares the request with the message whose id the stream still remembers, where that has not left the
// queue: nil then, and the result shows it. A different request is refused immediately, however long the first one takes.
func (j *runRequest) compareFirst(ctx context.Context, conn *bus.Conn, sequence uint64) (*bus.QueuedJob, error) {
	first, err := bus.ReadJob(ctx, conn, j.database.Name, sequence)
	if first == nil || err != nil {
		return nil, nil //nolint:nilerr // the result distinguishes the two as well
	}
	id := ""
	if values := first.Headers[headerMessageID]; len(values) > 0 {
		id = values[0]
	}
	other := examine(j.database.Jobs, j.database.Name, first.End(), id, first.Body)
	if !j.sameJob(&other) {
		return nil, j.reused()
	}
	return first, nil
}

// runRequest reads what the run endpoint needs to know. Other errors of a body are in the job's result.
func (a *api) runRequest(d *Database, q *service.Request) (*runRequest, error) {
	j := &runRequest{database: d, kind: strings.Join(q.Tokens[2:], ".")}
	var kinds, known, forms []string
	for _, o := range d.Policy.Offers() {
		forms = append(forms, o.Form)
		if kinds = append(kinds, o.Kind); o.Named == (len(q.Tokens) == 4) {
			known = append(known, o.Kind)
		}
	}
	id := q.Header(headerMessageID)
	if id == "" {
		id = "api-" + strings.ToLower(rand.Text())
	}
	switch {
	case !a.cfg.API.Run:
		return nil, j.refuse(403, "run_disabled", false, "api.run is disabled; publish to "+
			a.cfg.Namespace+".jobs."+d.Name+".<kind> in JetStream")
	case !slices.Contains(known, q.Tokens[2]) && slices.Contains(kinds, q.Tokens[2]):
		return nil, j.refuse(400, "invalid_subject", false, "write "+a.cfg.Namespace+".api.run."+d.Name+".<kind>.<name> for a job that names a statement, such as a call, and "+
			a.cfg.Namespace+".api.run."+d.Name+".<kind> for others")
	case !slices.Contains(known, q.Tokens[2]):
		return nil, j.refuse(404, string(contract.CodeKindNotAllowed), false, "the database runs no jobs of this kind; it runs "+strings.Join(forms, ", "))
	case !contract.ValidID(id):
		return nil, j.refuse(400, string(contract.CodeInvalidID), false, "the header "+headerMessageID+" must be 1 to 100 of A-Z a-z 0-9 _ -, and not "+
			"of the form that runners generate")
	}
	j.examined = examine(d.Jobs, d.Name, j.kind, id, q.Body)
	j.fresh = q.Header(headerMessageID) == "" && j.ID == id
	switch {
	case j.InvalidID:
		j.ID = ""
		return nil, j.refuse(400, string(contract.CodeInvalidID), false, "the id in the body must be 1 to 100 of A-Z a-z 0-9 _ -, and not s, digits, _ and "+
			"letters, the form of jobs without an id; nothing was published")
	case j.ReplyOnly:
		return nil, j.refuse(400, string(contract.CodeInvalidValue), false, `a job with "answer": "reply" has no stored result to be answered with: leave the key out; `+
			"nothing was published")
	}
	return j, nil
}

// forwarded are the headers of a request that its job gets: not those that JetStream or runners would obey.
func forwarded(headers map[string][]string) map[string][]string {
	out := make(map[string][]string, len(headers))
	for name, values := range headers {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "nats-") && !strings.HasPrefix(lower, jobHeaderPrefix) {
			out[name] = values
		}
	}
	return out
}

// notPublished returns why there is no job, or that it is unknown whether there is.
func (j *runRequest) notPublished(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, bus.ErrTooLarge):
		return j.refuse(413, string(contract.CodeTooLarge), false, "the body is larger than a job may be; nothing was published")
	case errors.Is(err, bus.ErrStreamFull):
		return j.refuse(503, "queue_full", true, "too many jobs wait for this database; nothing was published")
	case errors.Is(err, bus.ErrNoStream):
		return j.refuse(404, string(contract.CodeKindNotAllowed), false, "no stream takes jobs of this kind for this database; nothing was published")
	case errors.Is(err, bus.ErrDenied):
		return j.refuse(503, "run_disabled", false, "NATS does not permit this runner to publish jobs; grant it the permission or disable api.run")
	case ctx.Err() != nil:
		return j.refuse(504, "not_known_yet", true, "JetStream did not answer in time whether it has the job: send the same request again, with "+
			"the header "+headerMessageID+" if its body has no id")
	default:
		return fmt.Errorf("publish for a request: %w", err)
	}
}

// repeat answers with the result of an earlier message, if that asked for the same.
func (j *runRequest) repeat(head *contract.Head, result []byte) ([]byte, error) {
	if j.answeredBy(head, result) {
		return contract.MarkDuplicate(result), nil
	}
	return nil, j.reused()
}

func (j *runRequest) reused() error {
	return j.refuse(409, string(contract.CodeIDReused), false, "the id "+j.ID+" belongs to a different request, whose result stays; use a new id")
}

func (j *runRequest) refuse(status int, code string, retryable bool, message string) *service.Error {
	return refuse(status, refusal{Code: code, Message: message, Retryable: retryable, Database: j.database.Name, JobID: j.ID})
}

package mcp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/zap"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	askWait       = 20 * time.Second       // of one request for the result: a runner that dies costs no more
	askReserve    = 2 * time.Second        // for the way of a request and its answer
	askPause      = 250 * time.Millisecond // between requests that were answered immediately
	noRunnerAfter = 10 * time.Second       // so long may runners be away, while they are restarted for example
	progressEvery = 2 * time.Second

	cancelTimeout = 5 * time.Second // of one request to cancel
	cancelTries   = 3               // a request that overtook its job does not stop it

	labelCall = "mcp_call" // the label that distinguishes the job of one call from those of others with its request_id
)

var (
	errStopping = errors.New("the server is stopping")
	errWaited   = errors.New("no result yet")
)

// handler returns what answers calls of a statement. Only cancellations by the client cancel its job.
func (s *server) handler(serving context.Context, info *contract.CallInfo) sdk.ToolHandler {
	name := info.Name
	return func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(serving, func() { cancel(errStopping) })() // the protocol's own contexts do not end with it
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		case <-ctx.Done():
			return refusal("", "not_started", "the call was cancelled before it started; nothing was done", true), nil
		}
		return s.run(ctx, name, req), nil
	}
}

// run runs a call.
func (s *server) run(ctx context.Context, name string, req *sdk.CallToolRequest) *sdk.CallToolResult {
	given, err := readArguments(req.Params.Arguments)
	if err != nil {
		return refusal("", "invalid_arguments", err.Error(), false)
	}
	mark := strings.ToLower(rand.Text())
	id := "mcp-" + mark
	if given.requestID != "" {
		if id, err = jobID(s.user, name, given.requestID); err != nil {
			return refusal("", "internal_error", err.Error(), false)
		}
	}
	call := client.Call{Database: s.Database, Name: name, ID: id, Params: given.params, Options: map[string]any{
		"labels": map[string]string{labelCall: mark}, "format": "ndjson", "compression": "none",
	}}
	job, err := call.Job()
	if err != nil {
		return refusal("", "invalid_arguments", err.Error(), false)
	}
	w := &wait{server: s, job: job, started: time.Now()}
	stop := w.report(ctx, req)
	result, err := w.await(ctx)
	stop()
	if err == nil {
		return s.answerOf(ctx, result, w.isDuplicate(result, mark))
	}
	if errors.Is(context.Cause(ctx), context.Canceled) { // by the client: its leaving has other causes
		return s.cancel(ctx, job)
	}
	return w.refused(err, given.requestID != "")
}

// wait is the wait for the result of a call.
type wait struct {
	*server
	job      *client.Job
	started  time.Time
	asked    int                    // requests that were answered
	obstacle atomic.Pointer[string] // what the last answer said instead of a result
}

// await has a runner publish the job and returns its result: it sends the same request again until there is one. All of them are one
// job. The error is errWaited after the server's limit.
func (w *wait) await(ctx context.Context) (*client.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.Wait, errWaited)
	defer cancel()
	end, _ := ctx.Deadline()
	seen := w.started
	for {
		result, err := w.ask(ctx, max(min(askWait, time.Until(end)-askReserve/2), askReserve/2))
		if err == nil {
			return result, nil
		}
		refused, isAnswer := errors.AsType[*client.ServiceError](err)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, client.ErrNoService):
			if time.Since(seen) > noRunnerAfter {
				return nil, err
			}
		case isAnswer && !refused.Refusal.Error.Retryable && refused.Refusal.Error.Code != "", errors.Is(err, client.ErrDenied):
			return nil, err
		case isAnswer:
			text := refused.Message
			seen, w.asked = time.Now(), w.asked+1
			w.obstacle.Store(&text)
		}
		select {
		case <-time.After(askPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (w *wait) ask(ctx context.Context, wait time.Duration) (result *client.Result, err error) {
	subject := w.subject("run." + w.Database + ".call." + w.job.Name)
	err = w.guard(ctx, wait+askReserve, subject, func(ctx context.Context) error {
		result, err = w.client.Run(ctx, w.job, wait)
		return err
	})
	return result, err
}

// isDuplicate reports whether a result is that of an earlier call. Results have the labels of their job, unless its body could not be
// read.
func (w *wait) isDuplicate(r *client.Result, mark string) bool {
	if label, found := r.Labels[labelCall]; found {
		return label != mark
	}
	return r.Duplicate && w.asked == 0
}

// report sends progress to a client that asked for it, until the function that it returns is called.
func (w *wait) report(ctx context.Context, req *sdk.CallToolRequest) (stop func()) {
	token := req.Params.GetProgressToken()
	if token == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			message := "waiting for the result"
			if obstacle := w.obstacle.Load(); obstacle != nil {
				message = *obstacle
			}
			_ = req.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ // the answer counts
				ProgressToken: token, Progress: time.Since(w.started).Seconds(), Message: message,
			})
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// refused is the answer of a call without a result.
func (w *wait) refused(err error, named bool) *sdk.CallToolResult {
	refused, isAnswer := errors.AsType[*client.ServiceError](err)
	switch {
	case errors.Is(err, client.ErrDenied):
		return refusal("", "denied", explain(err)+"; nothing was done", false)
	case isAnswer && refused.Refusal.Error.Code == string(contract.CodeIDReused):
		return refusal(w.job.ID, refused.Refusal.Error.Code, "an earlier call of this tool had this request_id and other arguments; nothing was done: take a new request_id", false)
	case isAnswer:
		return refusal(refused.JobID, refused.Refusal.Error.Code, refused.Message, refused.Refusal.Error.Retryable)
	}
	code, message := "no_result_yet", fmt.Sprintf("there is no result after %s", w.Wait)
	if !errors.Is(err, errWaited) {
		code, message = "not_known", explain(err)
	}
	if obstacle := w.obstacle.Load(); obstacle != nil {
		message += " (" + *obstacle + ")"
	}
	if w.asked > 0 {
		message += "; the job goes on"
	} else {
		message += "; it is not known whether the job was stored"
	}
	if named {
		message += ". Repeat the call with the same request_id to get its answer: it has one effect"
	} else {
		message += ". The call had no request_id, so that repeating it is a new one; ask an operator about the job " + w.job.ID
	}
	return refusal(w.job.ID, code, message, named)
}

// cancel passes the client's cancellation on. The client does not wait for what it returns.
func (s *server) cancel(ctx context.Context, job *client.Job) *sdk.CallToolResult {
	ctx = context.WithoutCancel(ctx)
	subject := s.subject("cancel." + s.Database + "." + job.ID)
	outcome := contract.CancelKept
	for range cancelTries {
		err := s.guard(ctx, cancelTimeout, subject, func(ctx context.Context) error {
			answer, err := s.client.Cancel(ctx, s.Database, job.ID, client.CancelOptions{By: "mcp " + s.user, Wait: time.Second})
			if err == nil {
				outcome = answer.Outcome
			}
			return err
		})
		if err != nil {
			s.Logger.Error("job not cancelled", zap.String("database", s.Database), zap.String("job", job.ID), zap.Error(err))
			return refusal(job.ID, "not_cancelled", "the job was not cancelled and goes on: "+explain(err), false)
		}
		if outcome != contract.CancelKept {
			break
		}
	}
	return refusal(job.ID, string(contract.CodeCanceled), "the call was cancelled; its job: "+string(outcome), false)
}

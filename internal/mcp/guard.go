package mcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/client"
	"dbrunner/contract"
)

// deniedPoll is how often a request looks whether the server has denied it.
const deniedPoll = 50 * time.Millisecond

// subject is that of a request to the runners' service.
func (s *server) subject(path string) string {
	return contract.Subjects{Namespace: cmp.Or(s.Namespace, contract.DefaultNamespace)}.API(path)
}

// jetStream is the subject of a request to the JetStream API.
func (s *server) jetStream(path string) string {
	if s.Domain == "" {
		return "$JS.API." + path
	}
	return "$JS." + s.Domain + ".API." + path
}

// guard does something that publishes to a subject within a time limit. The server answers a publish that it denies with an error of the
// connection, not of the request: guard ends the request then, with client.ErrDenied.
func (s *server) guard(ctx context.Context, limit time.Duration, subject string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	before, done := s.NATS.LastError(), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(deniedPoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			last := s.NATS.LastError()
			if last != before && //nolint:errorlint // is it another error, of the same kind perhaps
				errors.Is(last, nats.ErrPermissionViolation) && strings.Contains(last.Error(), `"`+subject+`"`) {
				stop(fmt.Errorf("%w: publish to %s", client.ErrDenied, subject))
				return
			}
		}
	}()
	err := do(ctx)
	stop(nil)
	<-done
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, client.ErrDenied) {
		return cause
	}
	return err
}

// explain is an error as an agent sees it: cause, then remedy, without addresses.
func explain(err error) string {
	refused, isAnswer := errors.AsType[*client.ServiceError](err)
	switch {
	case errors.Is(err, client.ErrDenied):
		return err.Error() + "; an operator can grant it to this user"
	case isAnswer:
		return refused.Message
	case errors.Is(err, client.ErrNoService):
		return "no runner of this database answers; try again later"
	case errors.Is(err, client.ErrCatalogChanged):
		return client.ErrCatalogChanged.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return "no answer in time; try again later"
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrReconnectBufExceeded):
		return "not connected to NATS at the moment; try again later"
	case errors.Is(err, errStopping):
		return errStopping.Error()
	default:
		return "the request failed; see the log of runner mcp"
	}
}

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	// publishPause is the pause before a job is published again that its stream refused.
	publishPause = 500 * time.Millisecond

	// requestTimeout is a little more than runners take to answer a request.
	requestTimeout = 6 * time.Second
)

// runners is how the flow reaches them.
type runners interface {
	Health(ctx context.Context, database string) (*contract.HealthAnswer, error)
	Do(ctx context.Context, job *client.Job, limit time.Duration) (result *client.Result, known bool, err error)
	Rows(ctx context.Context, rows *contract.RowsObject, to io.Writer) error
}

// fleet is the runners behind NATS.
type fleet struct {
	*client.Client
	publishing chan struct{} // its capacity bounds the concurrent publishes: more would only wait for each other
}

// Do returns a job's result: the one that is stored, or else the job is published, for the first time or again, and its
// result awaited. A job that takes longer than the limit is cancelled; its result then reports how it finished. known: the
// result was stored before, as an earlier life of the flow had published the job.
func (f *fleet) Do(ctx context.Context, job *client.Job, limit time.Duration) (result *client.Result, known bool, err error) {
	result, err = f.Result(ctx, job.Database, job.ID)
	if err == nil {
		return result, true, nil
	}
	if err := f.publish(ctx, job); err != nil { // also if no server answered: the id makes that safe
		return nil, false, err
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, limit)
		result, err = f.Await(waiting, job.Database, job.ID)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return result, false, err
		}
		asking, cancel := context.WithTimeout(ctx, requestTimeout)
		_, _ = f.Cancel(asking, job.Database, job.ID, client.CancelOptions{}) // without an answer it is requested again after the limit
		cancel()
	}
}

// publish returns when the stream has the job. One that finds the stream full is published again until ctx ends.
func (f *fleet) publish(ctx context.Context, job *client.Job) error {
	select {
	case f.publishing <- struct{}{}:
		defer func() { <-f.publishing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		_, err := f.Submit(ctx, job)
		if _, refused := errors.AsType[*client.APIError](err); !refused || ctx.Err() != nil {
			return err
		}
		pause(ctx, publishPause)
	}
}

// Health has a runner check the database now.
func (f *fleet) Health(ctx context.Context, database string) (*contract.HealthAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	health, err := f.Client.Health(ctx, database)
	if errors.Is(err, client.ErrNoService) {
		err = errors.New("no runner is there")
	}
	return health, err
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	connections = 8    // to the database, of the measured worker
	bareBuffer  = 1000 // messages that the bare worker has fetched and not worked on
)

// bareJob is what the bare worker reads of a job.
type bareJob struct {
	ID         string            `json:"id"`
	ReplyTo    string            `json:"reply_to"`
	SQL        string            `json:"sql"`
	Params     []json.RawMessage `json:"params"`
	Statements []struct {
		SQL    string            `json:"sql"`
		Params []json.RawMessage `json:"params"`
	} `json:"statements"`
}

// bareDatabase runs a job and appends its answer's own part: `"rows":[…]` or `"statements":[…]`.
type bareDatabase interface {
	query(ctx context.Context, buf []byte, job *bareJob) ([]byte, error)
	transaction(ctx context.Context, buf []byte, job *bareJob) ([]byte, error)
}

// bareWorker is the loop that one writes by hand: a durable pull consumer, some goroutines, a pool, the answer as a
// core message, the acknowledgement. It checks nothing, guards nothing and stores nothing. A job that fails ends it.
func bareWorker(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bare", flag.ContinueOnError)
	url := flags.String("nats", "", "server")
	stream := flags.String("stream", "", "stream of the jobs")
	engine := flags.String("engine", "", "postgres, sqlite, sqlserver, or none: answers without a database")
	target := flags.String("database", "", "connection string or file")
	goroutines := flags.Int("goroutines", 2*connections, "concurrent jobs")
	marks := marksFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	database, err := openBare(ctx, *engine, *target)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(*url)
	if err != nil {
		return err
	}
	defer nc.Close()
	return marks.serve(ctx, func(ctx context.Context) error { return bareLoop(ctx, nc, *stream, *goroutines, database) })
}

func openBare(ctx context.Context, engine, target string) (bareDatabase, error) {
	switch engine {
	case "postgres":
		return openBarePostgres(ctx, target)
	case "sqlite":
		return openBareSQLite(target)
	case sqlserver:
		return openBareSQLServer(target)
	case "none":
		return bareNothing{}, nil
	}
	return nil, fmt.Errorf("the bare worker knows no engine %q", engine)
}

func bareLoop(ctx context.Context, nc *nats.Conn, stream string, goroutines int, database bareDatabase) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.Consumer(ctx, stream, "work")
	if err != nil {
		return err
	}
	messages := make(chan jetstream.Msg, bareBuffer)
	var workers sync.WaitGroup
	for range goroutines {
		workers.Go(func() {
			if err := bareWork(ctx, nc, messages, database); err != nil {
				cancel(err)
			}
		})
	}
	intake, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case messages <- m:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessages(bareBuffer))
	if err != nil {
		cancel(err)
	} else {
		<-ctx.Done()
		intake.Stop()
	}
	workers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nc.Flush()
}

func bareWork(ctx context.Context, nc *nats.Conn, messages <-chan jetstream.Msg, database bareDatabase) error {
	var buf []byte
	for {
		var m jetstream.Msg
		select {
		case m = <-messages:
		case <-ctx.Done():
			return nil
		}
		var job bareJob
		err := json.Unmarshal(m.Data(), &job)
		if err != nil {
			return err
		}
		buf = append(buf[:0], `{"job_id":"`...)
		buf = append(append(buf, job.ID...), `",`...)
		if len(job.Statements) > 0 {
			buf, err = database.transaction(ctx, buf, &job)
		} else {
			buf, err = database.query(ctx, buf, &job)
		}
		if err == nil {
			err = nc.Publish(job.ReplyTo, append(buf, '}'))
		}
		if err == nil {
			err = m.Ack()
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("job %s: %w", job.ID, err)
		}
	}
}

// bareNothing answers immediately: what remains is the cost of JetStream.
type bareNothing struct{}

func (bareNothing) query(_ context.Context, buf []byte, job *bareJob) ([]byte, error) {
	return fmt.Appendf(buf, `"rows":[{"n":%s}]`, job.Params[0]), nil
}

func (bareNothing) transaction(context.Context, []byte, *bareJob) ([]byte, error) {
	return nil, errors.New("nothing has no transactions")
}

// plain is a parameter as text: a JSON number as it is written, or the contents of a JSON string.
func plain(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || raw[0] != '"' {
		return string(raw), nil
	}
	var s string
	return s, json.Unmarshal(raw, &s)
}

func plains(raw []json.RawMessage) ([]any, error) {
	out := make([]any, len(raw))
	for i := range raw {
		s, err := plain(raw[i])
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}

// quoted appends a JSON string.
func quoted(buf, text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c == '"' || c == '\\' {
			q, err := json.Marshal(string(text))
			if err != nil {
				return buf
			}
			return append(buf, q...)
		}
	}
	buf = append(append(buf, '"'), text...)
	return append(buf, '"')
}

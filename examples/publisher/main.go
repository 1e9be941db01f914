// Publisher is a small upstream system: it publishes jobs with a stock NATS client, awaits their stored results and
// replies, and survives its own restart. It knows nothing of the runner but its contract, docs/messages.md.
//
// Start `runner demo` and give this program the URL that the demo prints.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
)

type options struct {
	server    string
	creds     string
	namespace string
	database  string
	state     string
	jobs      int
	timeout   time.Duration
	sendOnly  bool
	resume    bool
}

// errUsage is returned if the command line is invalid.
var errUsage = errors.New("wrong usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(78)
	case err != nil:
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	opts, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.timeout)
	defer cancel()
	state, err := OpenState(opts.state)
	if err != nil {
		return err
	}
	defer state.Close()
	if err = checkState(state, opts); err != nil {
		return err
	}
	nc, err := connect(opts)
	if err != nil {
		return err
	}
	defer nc.Close()
	client, err := NewClient(nc, opts.namespace, opts.database)
	if err != nil {
		return err
	}
	p := &publisher{client: client, state: state, out: out}
	if opts.resume {
		return p.resume(ctx)
	}
	return p.show(ctx, opts.jobs, opts.sendOnly)
}

func parse(args []string) (*options, error) {
	opts := &options{}
	flags := flag.NewFlagSet("publisher", flag.ContinueOnError)
	flags.StringVar(&opts.server, "server", envOr("NATS_URL", nats.DefaultURL), "URL of the NATS server")
	flags.StringVar(&opts.creds, "creds", "", "file with NATS credentials")
	flags.StringVar(&opts.namespace, "namespace", "dbrunner", "the runners' namespace")
	flags.StringVar(&opts.database, "database", "demo", "the database that the jobs are for")
	flags.StringVar(&opts.state, "state", "publisher.state", "file that remembers the jobs over a restart")
	flags.IntVar(&opts.jobs, "jobs", 100, "number of concurrent jobs")
	flags.DurationVar(&opts.timeout, "timeout", 2*time.Minute, "time limit of the whole program")
	flags.BoolVar(&opts.sendOnly, "send-only", false, "publish the jobs and leave before the answers, as if killed")
	flags.BoolVar(&opts.resume, "resume", false, "pick up the answers of the jobs that the state file names")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, errUsage // flags has said what is wrong
	}
	if opts.jobs < 1 || flags.NArg() > 0 {
		return nil, fmt.Errorf("%w: --jobs must be at least 1, and there are no arguments besides flags", errUsage)
	}
	return opts, nil
}

func checkState(state *State, opts *options) error {
	open := len(state.Open())
	if open > 0 && !opts.resume {
		return fmt.Errorf("%s names %d jobs without an answer: run with --resume, or remove the file", opts.state, open)
	}
	return nil
}

func connect(opts *options) (*nats.Conn, error) {
	natsOpts := []nats.Option{
		nats.Name("dbrunner example publisher"),
		nats.MaxReconnects(-1), // unlimited: published jobs get their results, however long the server is down
	}
	if opts.creds != "" {
		natsOpts = append(natsOpts, nats.UserCredentials(opts.creds))
	}
	nc, err := nats.Connect(opts.server, natsOpts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

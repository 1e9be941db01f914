// Flow is a small orchestrator, as one would write it with the Go client: it looks whether its databases are
// well before it starts, fans out many jobs over them, awaits every answer, and knows what to do with each way in which
// a job can end. It may be killed at any moment and started again. It knows nothing of the runners but their contract,
// docs/messages.md.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/client"
)

type options struct {
	server      string
	creds       string
	inboxPrefix string
	namespace   string
	databases   []string
	run         string
	jobs        int
	publishers  int
	trouble     bool
	export      string
	health      time.Duration
	wait        time.Duration
	timeout     time.Duration
}

// The exit codes are those of runner submit: 1 it could not be done, 3 a job did not succeed, 78 the command line is wrong.

// errUsage is returned if the command line is invalid.
var errUsage = errors.New("wrong usage")

// validRun leaves room for what the jobs' ids have besides: an id has at most 100 of these characters.
var validRun = regexp.MustCompile(`^[A-Za-z0-9_-]{1,60}$`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "flow:", err)
		os.Exit(78)
	case errors.Is(err, errNoSuccess):
		fmt.Fprintln(os.Stderr, "flow:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "flow:", err)
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
	nc, err := connect(opts)
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := client.New(nc, client.Options{Namespace: opts.namespace})
	if err != nil {
		return err
	}
	f := &flow{runners: &fleet{Client: c, publishing: make(chan struct{}, opts.publishers)}, run: opts.run, databases: opts.databases, wait: opts.wait, retryPause: time.Second, out: out}
	f.printf("run %s; started again with --run %[1]s, it goes on where it was\n", opts.run)
	return f.perform(ctx, opts)
}

func parse(args []string) (*options, error) {
	opts := &options{}
	var databases string
	flags := flag.NewFlagSet("flow", flag.ContinueOnError)
	flags.StringVar(&opts.server, "server", cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), "URL of the NATS server")
	flags.StringVar(&opts.creds, "creds", "", "file with NATS credentials")
	flags.StringVar(&opts.inboxPrefix, "inbox-prefix", nats.InboxPrefix[:len(nats.InboxPrefix)-1], "where answers to this program go")
	flags.StringVar(&opts.namespace, "namespace", "dbrunner", "the runners' namespace")
	flags.StringVar(&databases, "databases", "demo", "the databases that the jobs are spread over, with commas")
	flags.StringVar(&opts.run, "run", "flow-"+strings.ToLower(rand.Text()[:12]), "id of this run: choose one that your scheduler keeps over a restart")
	flags.IntVar(&opts.jobs, "jobs", 200, "number of concurrent jobs")
	flags.IntVar(&opts.publishers, "publishers", 32, "number of jobs that are being published at the same time")
	flags.BoolVar(&opts.trouble, "trouble", false, "add jobs that are rejected, fail, expire and have to be cancelled")
	flags.StringVar(&opts.export, "export", "", "file that the first database's bookings are written to, as CSV")
	flags.DurationVar(&opts.health, "health", time.Minute, "how long to wait for a database that is not well")
	flags.DurationVar(&opts.wait, "wait", time.Minute, "how long to wait for a job before it is cancelled")
	flags.DurationVar(&opts.timeout, "timeout", 10*time.Minute, "time limit of the whole program")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, errUsage // flags has said what is wrong
	}
	opts.databases = strings.Split(databases, ",")
	switch {
	case opts.jobs < 1 || opts.publishers < 1 || flags.NArg() > 0:
		return nil, fmt.Errorf("%w: --jobs and --publishers must be at least 1, and there are no arguments besides flags", errUsage)
	case !validRun.MatchString(opts.run):
		return nil, fmt.Errorf("%w: --run must be 1 to 60 of A-Z a-z 0-9 _ -", errUsage)
	}
	return opts, nil
}

func connect(opts *options) (*nats.Conn, error) {
	natsOpts := []nats.Option{
		nats.Name("dbrunner example flow"),
		nats.MaxReconnects(-1), // unlimited: published jobs get their results, however long the server is down
		nats.CustomInboxPrefix(opts.inboxPrefix),
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

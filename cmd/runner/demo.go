package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/ui"
)

const demoHelp = `Start a NATS server with JetStream and a small SQLite database in this process, run jobs, and print each message and its
result. Then keep serving until Ctrl-C; the demo prints its address and nats commands to try. All files are in a temporary
folder, which is removed at exit. The operator's page ("runner ui") is served, too.

With --once, exit after the demonstration: 0 if every result is as expected, 1 if not.`

func newDemo() *cobra.Command {
	var once bool
	var port int
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Run a self-contained demo",
		Long:    demoHelp,
		Example: "  runner demo\n  runner demo --once\n  runner demo --port 4222",
		Args:    arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return demo(cmd.Context(), cmd.OutOrStdout(), port, once) },
	}
	cmd.Flags().BoolVar(&once, "once", false, "exit after the walkthrough")
	cmd.Flags().IntVar(&port, "port", 0, "port of the NATS server (default: a free one)")
	return cmd
}

func demo(ctx context.Context, out io.Writer, port int, once bool) (err error) {
	if port < 0 || port > 65535 {
		return usage(errors.New("--port must be 1 to 65535, or 0 for a free one"))
	}
	world, err := app.NewDemo(ctx, port, zap.NewNop())
	switch {
	case err != nil && ctx.Err() != nil: // stopped during startup
		return nil
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, world.Close(ctx)) }()
	log, level, closeLog, err := newLogger(&world.Config.Log, os.Stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	runner, err := app.New(app.Options{
		Config: world.Config, Logger: log, Level: &level, Version: buildVersion().Version, Migrations: world.Migrations,
	})
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx) // if the runner ends first, the demonstration ends too
	defer stop()
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		failed = runner.Run(serving)
		stop()
	})
	select {
	case <-runner.Started():
		s := &show{out: out, style: styleFor(out), url: world.URL()}
		if !once {
			if s.page, err = demoPage(serving, &wg, world); err != nil {
				break
			}
		}
		s.intro(world)
		err = s.perform(serving)
		if err == nil && !once {
			s.tryYourself()
			<-serving.Done()
		}
	case <-serving.Done():
	}
	stop()
	wg.Wait()
	return errors.Join(failed, err)
}

// demoAddress is where the demonstration's page is, if the port is free.
const demoAddress = "127.0.0.1:8090"

// demoPage starts the page of the demonstration and returns its URL.
func demoPage(ctx context.Context, wg *sync.WaitGroup, world *app.Demo) (string, error) {
	nc, err := nats.Connect(world.URL(), nats.MaxReconnects(-1))
	if err != nil {
		return "", err
	}
	page, err := ui.New(ui.Options{NATS: nc, Write: true, ShowRows: true, Environment: "demo", By: thisUser()})
	if err != nil {
		nc.Close()
		return "", err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", demoAddress)
	if err != nil { // another one has the port
		listener, err = listen.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		nc.Close()
		return "", fmt.Errorf("the page cannot listen: %w", err)
	}
	wg.Go(func() {
		defer nc.Close()
		_ = page.Serve(ctx, listener) // the demonstration is of jobs: it goes on without the page
	})
	return "http://" + listener.Addr().String(), nil
}

func (s *show) intro(world *app.Demo) {
	s.line(s.style.bold("dbrunner demo"))
	s.line("")
	s.line("  NATS      " + world.URL() + "  " + s.style.dim("embedded, with JetStream"))
	s.line("  database  " + app.DemoDatabase + "  " + s.style.dim("SQLite, "+world.File))
	s.line("            " + s.style.dim("accounts (id, owner, balance), transfers (id, source, target, amount)"))
	s.line("  runner    " + world.Config.Instance)
	if s.page != "" {
		s.line("  page      " + s.page + "  " + s.style.dim("what operators see; here with actions and rows"))
	}
	s.line("")
	s.line("A job is published to dbrunner.jobs.<database>.<kind>; its result is stored once, under")
	s.line("dbrunner.results.<database>.<job id>.")
}

// tryYourself prints commands of the stock nats client, with this demo's own address.
func (s *show) tryYourself() {
	nats := "nats --server " + s.url + " "
	s.line("")
	s.line(s.style.bold("Your turn") + ", with the nats CLI in another terminal:")
	s.line("")
	for _, try := range []struct{ what, line string }{
		{"see every result as it is stored", nats + "sub 'dbrunner.results.demo.>'"},
		{"publish a query", nats + `pub --jetstream dbrunner.jobs.demo.query '{"id":"a1","sql":"SELECT 1 AS n"}'`},
		{"get its result from the stream, now or later", nats + "stream get DBRUNNER_RESULTS_demo --last-for dbrunner.results.demo.a1"},
		{"the same, by direct get", nats + "req '$JS.API.DIRECT.GET.DBRUNNER_RESULTS_demo.dbrunner.results.demo.a1' '' --raw"},
		{"run a query and get its result in one request", nats + `request dbrunner.api.run.demo.query '{"sql":"SELECT * FROM accounts"}'`},
		{"call a named statement of the catalog", "runner call --server " + s.url + " demo pay from=2 to=4 amount=10"},
		{"see the runner as a service", nats + "service info dbrunner"},
		{"or let the runner's own client wait for it", "runner submit --server " + s.url + " --database demo --sql 'SELECT * FROM accounts'"},
		{"watch migrations, then revert the last one", nats + "sub 'dbrunner.health.migration.>'"},
		{"", nats + `pub --jetstream dbrunner.jobs.demo.migration '{"id":"back","action":"down","target":"1"}'`},
		{"list jobs that were rejected or failed", "runner dead ls --server " + s.url},
	} {
		if try.what != "" {
			s.line("  " + s.style.dim("# "+try.what))
		}
		s.line("  " + try.line)
		s.line("")
	}
	s.line("Still serving; Ctrl-C ends the demo and removes its files.")
}

func (s *show) line(text string) { _, _ = fmt.Fprintln(s.out, strings.TrimRight(text, " ")) }

// Bench measures the runner beside what one would write by hand: the bare worker, the bare drivers. Every part is a
// process of its own: this program is started once as the orchestrator and again for each role, except for the runner,
// which is the built command. It prints a table and writes bench/results/latest.json; bench/README.md explains how to read
// them. It works on Linux only: what processes cost is read from /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// roles are the processes that the orchestrator starts.
var roles = map[string]func(ctx context.Context, args []string) error{
	"nats":    serveNATS,
	"bare":    bareWorker,
	"raw-pgx": rawPgx,
	"runner":  inspectedRunner,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if role, ok := roles[args[0]]; ok {
			return role(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var o options
	flags.BoolVar(&o.quick, "quick", false, "one short round of everything but the flat cost, about a minute")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds that the medians are taken over")
	flags.StringVar(&o.runner, "runner", "bin/runner", "the built runner")
	flags.StringVar(&o.out, "out", "bench/results/latest.json", "where the figures are written; empty: nowhere")
	flags.StringVar(&o.page, "page", "docs/performance.md", "page whose table is filled with what is written; empty: none")
	flags.StringVar(&o.profiles, "profiles", "", "write CPU profiles as text into this folder, and measure nothing else")
	flags.StringVar(&o.only, "only", "", "parts to run, of: rounds,latency,allocations,memory,flat,files,sizes,large (default all of these),scale")
	o.scale.flags(flags)
	flags.StringVar(&o.works, "works", "", "works of the rounds, such as a,b,sqlite-c (default all)")
	flags.Func("env", "a setting of the runner to try, such as POSTGRES_SLOTS=64; may be repeated", func(text string) error {
		o.environment = append(o.environment, text)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.quick {
		o.rounds = 1
	}
	o.scale.fill(o.quick)
	if o.has("scale") && !isSet(flags, "out") {
		o.out = "" // the file of the other parts is not for these figures
	}
	return orchestrate(ctx, o)
}

func isSet(flags *flag.FlagSet, name string) (found bool) {
	flags.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

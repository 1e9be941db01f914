// Faults runs real runner processes against a cluster of real NATS servers, PostgreSQL, SQLite and, where one is named, SQL Server, makes faults
// in all of them by a plan that a seed decides, and holds what was seen from outside against what dbrunner promises (package check).
// A seed repeats its jobs and its faults; what the processes make of the time between them is theirs. Every part is a
// process of its own: this program is started again as each NATS server, the runners are the built command with crash
// points. It works on Linux only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"dbrunner/internal/db/dbtest"
)

// options are what the command line says.
type options struct {
	seed      uint64        // the first one
	seeds     int           // how many
	parallel  int           // how many of them at a time
	jobs      int           // of one run
	length    time.Duration // of the faults of one run
	drain     time.Duration // that the queues may take to be empty afterwards
	only      []string      // nemeses; empty: all
	mix       bool          // all of them together, not in turn
	quick     bool
	recovery  bool
	out       string // where the report is written; empty: nowhere
	resume    bool   // go on with the report that is there
	keep      string // where the histories of violations are written
	keepAll   bool   // also the histories of runs in which every promise was kept
	runner    string // a built runner; empty: it is built
	before    string // commit whose runner is upgraded from
	mutants   bool
	mutant    string // only this one
	soak      time.Duration
	sync      bool   // NATS servers sync each write
	sqlserver string // URL of a SQL Server that takes part; empty: none does
	verbose   bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "nats" {
		return serveNATS(ctx, args[1:])
	}
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	o := options{sqlserver: os.Getenv(dbtest.SQLServerVariable)}
	flags.Uint64Var(&o.seed, "seed", 1, "the first seed")
	flags.IntVar(&o.seeds, "seeds", 40, "how many seeds are run")
	flags.IntVar(&o.parallel, "parallel", 1, "how many seeds are run at a time, each on servers of its own")
	flags.IntVar(&o.jobs, "jobs", 5000, "jobs that each seed publishes")
	flags.DurationVar(&o.length, "length", 10*time.Second, "how long each seed publishes and makes faults")
	flags.StringVar(&o.out, "out", "", "file that the report is written to as JSON, after each seed")
	flags.BoolVar(&o.resume, "resume", false, "add to the report that -out names: of the seeds that it has, only those with violations are run again")
	flags.StringVar(&o.keep, "keep", "", "folder that the whole history of each violation is written to (default: a new one)")
	flags.StringVar(&o.runner, "runner", "", "a runner built with the tag crashpoints (default: it is built)")
	flags.StringVar(&o.before, "before", before, "commit whose runner the nemesis upgrade starts from and goes back to")
	flags.BoolVar(&o.mix, "mix", false, "let all of -only work in each seed, not one in turn")
	flags.BoolVar(&o.quick, "quick", false, "three short seeds with a mix of nemeses each, about a minute, instead")
	flags.BoolVar(&o.recovery, "recovery", false, "measure how long each nemesis is felt: a minute each, with few jobs and long pauses, instead")
	flags.DurationVar(&o.drain, "drain", 60*time.Second, "how long after the last fault the queues may take to be empty")
	flags.BoolVar(&o.mutants, "mutants", false, "show that broken runners are found out, instead")
	flags.StringVar(&o.mutant, "mutant", "", "the same, for one of them")
	flags.DurationVar(&o.soak, "soak", 0, "run for this long without faults and draw what the processes hold, instead")
	flags.BoolVar(&o.sync, "sync-always", false, "have the NATS servers sync each write to the disk, as sync_interval: always does")
	flags.BoolVar(&o.keepAll, "keep-all", false, "write the history of each run, not only of those with violations")
	flags.BoolVar(&o.verbose, "v", false, "report each fault")
	flags.Func("only", "nemeses to choose from, such as runner_kill,pg_stop (default: all); list: names them", func(text string) error {
		if text == "list" {
			for _, n := range nemeses(true) {
				fmt.Printf("%-18s %s\n", n.name, n.what)
			}
			os.Exit(0)
		}
		o.only = strings.Split(text, ",")
		return knownNemeses(o.only)
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.parallel < 1 {
		return fmt.Errorf("-parallel is %d: it is at least 1", o.parallel)
	}
	if err := checkServer(&o); err != nil {
		return err
	}
	return o.run(ctx)
}

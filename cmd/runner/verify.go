package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/plaintext"
	"dbrunner/internal/verify"
)

const verifyHelp = `Reconcile what runners have left of a database's jobs: the messages of its jobs stream, its stored results, its ledger and its
dead letters. It shares no code with the runners, only reads, and may run at any time, also while runners work: after an
incident, after a restore, or every night. Messages are read with requests to JetStream, ledger rows with SELECT, over a
connection of its own with the connection string of the configuration.

Each finding names what does not match, its meaning, and what to look at. Nothing is reported that may have expired
(results by their age, ledger rows by ledger.retention), and whatever does not match is read again before it is reported.
Warnings need attention, but no promise is broken. --since takes a time (2026-03-01T12:00:00Z) or how long ago (6h).

Exit codes: 0 nothing does not match (warnings are possible); 1 not everything could be read; 3 something does not match; 78 the
command line or the configuration is wrong.
` + clientHelp

type verifyFlags struct {
	clientFlags
	since       string
	rate, limit int
	retention   time.Duration
	json        bool
}

func newVerify() *cobra.Command {
	f := &verifyFlags{}
	cmd := &cobra.Command{
		Use:     "verify DATABASE",
		Short:   "Reconcile jobs, results, ledger and dead letters",
		Long:    verifyHelp,
		Example: "  runner verify shop --config runner.yaml\n  runner verify shop --config runner.yaml --since 6h --json",
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "read only what was stored or recorded since: a time (RFC 3339), or how long ago")
	flags.IntVar(&f.rate, "rate", verify.DefaultRate, "maximum number of messages and rows to read per second")
	flags.IntVar(&f.limit, "max-findings", verify.DefaultLimit, "stop after this many findings")
	flags.DurationVar(&f.retention, "ledger-retention", 0, "shortest ledger.retention of any runner while the rows were written (default: the configuration's)")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *verifyFlags) run(cmd *cobra.Command, database string) (err error) {
	since, err := f.sinceTime(time.Now())
	switch {
	case !contract.ValidName(database):
		return usage(errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -"))
	case err != nil:
		return usage(err)
	case f.rate < 1 || f.limit < 1 || f.retention < 0:
		return usage(errors.New("--rate and --max-findings must be above zero, --ledger-retention not below"))
	}
	s, err := f.connect(cmd.Context(), false)
	if err != nil {
		return err
	}
	defer s.close(cmd.Context())
	settings := s.cfg.Databases[database]
	if settings == nil {
		return usage(fmt.Errorf("the configuration has no database %s, so that its ledger cannot be read; name the runners' configuration with --config", database))
	}
	opts := verify.Options{
		NATS: s.conn.NATS(), Domain: s.cfg.NATS.Domain, Namespace: s.cfg.Namespace, Database: database, DeadLetters: settings.DeadLetters,
		Retention: settings.Ledger.Retention, Since: since, Rate: f.rate, Limit: f.limit,
	}
	if f.retention > 0 {
		opts.Retention = f.retention
	}
	if opts.Ledger, err = openLedger(settings, s.cfg.Namespace, database); err != nil {
		return err
	}
	if opts.Ledger != nil {
		defer func() { err = errors.Join(err, opts.Ledger.Close()) }()
	}
	return f.verify(cmd, opts)
}

// openLedger opens the ledger of a database; nil if it has none.
func openLedger(d *config.Database, namespace, database string) (*verify.Ledger, error) {
	if !d.HasLedger() {
		return nil, nil
	}
	ledger, err := verify.OpenLedger(d.Type, d.ConnectionString.Current(), namespace, database)
	return ledger, usage(err)
}

func (f *verifyFlags) sinceTime(now time.Time) (time.Time, error) {
	if f.since == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(f.since); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return at, fmt.Errorf("--since %q is neither a time such as 2026-03-01T12:00:00Z nor a duration such as 6h", f.since)
	}
	return at, nil
}

func (f *verifyFlags) verify(cmd *cobra.Command, opts verify.Options) error {
	line := &statusLine{out: cmd.ErrOrStderr(), on: onTerminal(cmd.ErrOrStderr())}
	opts.Progress = func(stage string, done, total uint64) {
		text := fmt.Sprintf("%s: %d", stage, done)
		if total > 0 {
			text += fmt.Sprintf(" of %d", total)
		}
		line.draw(text)
	}
	report, err := verify.Run(cmd.Context(), opts)
	line.clear()
	if f.json {
		err = errors.Join(err, printJSON(cmd.OutOrStdout(), report))
	} else {
		printReport(cmd.OutOrStdout(), report)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return errors.New("stopped; not everything was read")
		}
		return err
	}
	if n := report.Violations(); n > 0 {
		return &exitError{exitJob, fmt.Errorf("%s in %s", counted(n, "finding"), opts.Database)}
	}
	return nil
}

func printReport(w io.Writer, r *verify.Report) {
	explained := map[verify.Kind]bool{}
	for _, f := range r.Findings {
		grade := "finding"
		if f.Warning {
			grade = "warning"
		}
		_, _ = fmt.Fprintf(w, "%s  %s  %s  %s\n", grade, f.Kind, plaintext.Visible(f.JobID, ""), plaintext.Visible(f.Text, ""))
		if !explained[f.Kind] {
			_, _ = fmt.Fprintf(w, "    means: %s\n    look at: %s\n", f.Meaning, f.Look)
		}
		explained[f.Kind] = true
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Counts)) {
		_, _ = fmt.Fprintf(w, "%6d  %s\n", r.Counts[kind], kind)
	}
	_, _ = fmt.Fprintf(w, "%s: read %s, %s, %s and %s in %s\n", r.Database, counted(int(r.Results), "result"), counted(int(r.LedgerRows), "ledger row"),
		counted(int(r.DeadLetters), "dead letter"), counted(int(r.Jobs), "job"), r.FinishedAt.Sub(r.StartedAt).Round(100*time.Millisecond))
	var notes []string
	note := func(n uint64, text string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf("%d %s", n, text))
		}
	}
	note(r.InProgress, "still being settled")
	note(r.NotJudged.ExpiredResults, "ledger rows whose results may have expired")
	note(r.NotJudged.SweptRows, "results whose ledger rows may have been deleted by their age")
	note(r.NotJudged.DeadLetters, "dead letters whose results may have expired")
	if r.NotJudged.Remembered {
		notes = append(notes, "more results than are remembered: second results and settled jobs were looked for among some of them")
	}
	if !r.Complete {
		notes = append(notes, "stopped before everything was read")
	}
	if len(notes) > 0 {
		_, _ = fmt.Fprintf(w, "not judged: %s\n", strings.Join(notes, "; "))
	}
	if r.Complete && len(r.Findings) == 0 {
		_, _ = fmt.Fprintln(w, "everything matches")
	}
}

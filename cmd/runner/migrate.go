package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/manager"
)

const migrateHelp = `Manage the schema version of one configured database with the files in its folder (migrations/<database> unless
configured). The commands do what jobs of kind migration do, with the same guarantees and under the same lock: runners, jobs
and other users wait meanwhile. They connect to the database directly; NATS is not needed.

The configuration is that of "serve": --config FILE, or the environment only.

A target is a version as in the file names, such as 3 or 1.2, or none for the state before the first file.

Exit codes: 0 done; 1 failed or refused ("validate": there is an error; "status --check": files are pending or there is an
error); 78 the command line, the target or the configuration is wrong. Ctrl-C stops the statement in the database and
reports what is left. See docs/migrations.md.`

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Manage schema versions: status, validate, plan, up, down, goto, repair, baseline, new",
		Long:  migrateHelp,
	}
	for i := range migrateCommands() {
		cmd.AddCommand(newMigrateAction(&migrateCommands()[i]))
	}
	cmd.AddCommand(newMigrateNew())
	return cmd
}

// migrateCommand is one action on the command line.
type migrateCommand struct {
	action  migration.Action
	target  string // how the usage writes it; empty: there is none
	short   string
	long    string
	example string
}

func (c *migrateCommand) name() string { return string(c.action) }

func migrateCommands() []migrateCommand {
	return []migrateCommand{
		{
			migration.Status, "", "Show the version and every file", "Status shows the version of the database, what is wrong, and each file: " +
				"applied, pending, adopted,\nedited or missing; when, by whom, and how long it took. It changes, creates and locks nothing.",
			"  runner migrate status rpa_db --config runner.yaml\n  runner migrate status rpa_db --check --json",
		},
		{migration.Validate, "", "Report everything that would be refused", "Validate compares folder and database and reports everything that " +
			"is wrong. It changes nothing.\nExit code 1 if anything is.", "  runner migrate validate rpa_db"},
		{migration.Plan, "[TARGET]", "Print what would be run", "Plan prints the files and statements that \"up\" would run; with a target below the " +
			"database's version, those\nthat \"goto\" would revert by. It changes nothing.", "  runner migrate plan rpa_db\n  runner migrate plan rpa_db 2"},
		{
			migration.Up, "[TARGET]", "Apply what is pending", "Up applies the pending files, all or up to a target, each in one transaction with the mark " +
				"that it is done.\nA file that cannot run in a transaction runs statement by statement.",
			"  runner migrate up rpa_db\n  runner migrate up rpa_db 7 --timeout 4h",
		},
		{migration.Down, "TARGET", "Revert what is above a version", "Down reverts the files above the target, the last one first, by their U or .down.sql " +
			"files. Where one has\nnone, nothing is reverted. On a terminal it asks before.", "  runner migrate down rpa_db 2\n  runner migrate down rpa_db none --yes"},
		{migration.Goto, "TARGET", "Go to a version, up or down", "Goto applies or reverts, whatever leads to the target. On a terminal it asks before it " +
			"reverts.", "  runner migrate goto rpa_db 3"},
		{migration.Repair, "TARGET", "Set the recorded version", "Repair prints what is wrong, such as the effects of an interrupted migration. Then it sets " +
			"the version: files up\nto the target count as applied, with their text of today, all others do not. It runs none of them; make the\n" +
			"database fit before. On a terminal it asks.", "  runner migrate repair rpa_db 3"},
		{
			migration.Baseline, "TARGET", "Adopt a database migrated by another tool", "Baseline adopts a database without a history of ours, such " +
				"as one that Flyway or golang-migrate has looked\nafter: the files up to the target count as applied. It runs none of them.",
			"  runner migrate baseline rpa_db 12",
		},
	}
}

// migrateFlags are the flags of all actions; those that an action does not know keep their zero.
type migrateFlags struct {
	config     string
	json       bool
	check      bool
	outOfOrder bool
	yes        bool
	timeout    time.Duration
}

func newMigrateAction(c *migrateCommand) *cobra.Command {
	f := &migrateFlags{}
	cmd := &cobra.Command{
		Use:     strings.TrimSpace(c.name() + " DATABASE " + c.target),
		Short:   c.short,
		Long:    c.long,
		Example: c.example,
		Args:    c.arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := migration.Request{Action: c.action, OutOfOrder: f.outOfOrder}
			if len(args) > 1 {
				req.Target = args[1]
			}
			return f.run(cmd, args[0], req)
		},
	}
	f.add(cmd, c)
	return cmd
}

func (f *migrateFlags) add(cmd *cobra.Command, c *migrateCommand) {
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file of the runner (default: environment variables only)")
	flags.BoolVar(&f.json, "json", false, "print one JSON document")
	flags.DurationVar(&f.timeout, "timeout", 0, "time limit, including the wait for the lock "+
		"(default: the configuration's for kind migration, 1h)")
	switch c.action {
	case migration.Status:
		flags.BoolVar(&f.check, "check", false, "exit with 1 if anything is pending or wrong")
	case migration.Plan, migration.Up, migration.Goto, migration.Validate:
		flags.BoolVar(&f.outOfOrder, "out-of-order", false, "allow files whose version is below the database's")
	case migration.Down, migration.Repair, migration.Baseline:
	}
	if f.mayAsk(c.action) {
		flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	}
}

func (f *migrateFlags) mayAsk(a migration.Action) bool {
	return a == migration.Down || a == migration.Goto || a == migration.Repair
}

// arguments wants a database, and a target where the action needs one.
func (c *migrateCommand) arguments(_ *cobra.Command, args []string) error {
	most := 1
	if c.target != "" {
		most = 2
	}
	switch {
	case len(args) == 0:
		return fmt.Errorf("%s needs the name of a configured database: runner migrate %s %s", c.name(), c.name(),
			strings.TrimSpace("DATABASE "+c.target))
	case len(args) == 1 && c.action.NeedsTarget():
		return fmt.Errorf("%s needs a target, a version or none: runner migrate %s %s TARGET", c.name(), c.name(), args[0])
	case len(args) > most:
		return fmt.Errorf("%s takes no %q", c.name(), args[most])
	}
	return nil
}

// load reads the configuration and finds a database in it.
func (f *migrateFlags) load(database string, client bool) (*config.Config, error) {
	cfg, err := loadConfig(f.config, client)
	if err != nil {
		return nil, err
	}
	if err := wantDatabases(cfg); err != nil {
		return nil, err
	}
	if cfg.Databases[database] == nil {
		return nil, usage(fmt.Errorf("the configuration has no database %q; it has %s", database,
			strings.Join(slices.Sorted(maps.Keys(cfg.Databases)), ", ")))
	}
	return cfg, nil
}

func (f *migrateFlags) run(cmd *cobra.Command, database string, req migration.Request) error {
	if f.timeout < 0 {
		return usage(errors.New("--timeout must not be below zero"))
	}
	cfg, err := f.load(database, false)
	if err != nil {
		return err
	}
	req.Timeout = f.timeout
	if req.Timeout == 0 {
		req.Timeout = manager.MigrationTimeout(cfg.Databases[database])
	}
	m, err := manager.OpenMigrations(cfg, database, nil)
	if err != nil {
		return configFault(err)
	}
	defer func() { _ = m.Close() }() // everything is committed or rolled back by then
	w := &migrateWork{cmd: cmd, database: database, m: m, flags: f, req: req}
	return w.run(cmd.Context())
}

// migrateWork is one action by hand.
type migrateWork struct {
	cmd      *cobra.Command
	database string
	m        *migration.Migrator
	flags    *migrateFlags
	req      migration.Request
	told     []string // in words, before anything was done
}

func (w *migrateWork) run(ctx context.Context) error {
	if err := w.ask(ctx); err != nil {
		return err
	}
	report, err := w.act(ctx)
	if err := errors.Join(err, w.print(report, err)); err != nil {
		return w.exit(report, err)
	}
	return w.verdict(report)
}

// act does the action and reports meanwhile where it is.
func (w *migrateWork) act(ctx context.Context) (*migration.Report, error) {
	if w.req.Action.Reads() {
		return w.m.Run(ctx, w.req)
	}
	p := newMeter(w.cmd.ErrOrStderr())
	defer p.stop()
	req := w.req
	req.Progress = p.note
	report, err := w.m.Run(ctx, req)
	if report == nil && p.begun() {
		report = w.left(ctx)
	}
	return report, err
}

// lookupTimeout bounds a look at the database beside the action itself.
const lookTimeout = 15 * time.Second

// left looks in a session of its own at what an action has left that has lost its own; nil if that cannot be seen.
func (w *migrateWork) left(ctx context.Context) *migration.Report {
	report, err := w.m.Run(context.WithoutCancel(ctx), migration.Request{Action: migration.Validate, Timeout: lookTimeout})
	if err != nil {
		return nil
	}
	report.Action = w.req.Action
	return report
}

// exit gives an error its exit code. A folder that cannot be read, and a target that is none, are the caller's.
func (w *migrateWork) exit(report *migration.Report, err error) error {
	switch migration.AnswerError(err).Code {
	case string(contract.CodeMigrationTarget):
		return usage(err)
	case string(contract.CodeMigrationFolder):
		if report == nil || len(report.Faults) == 0 {
			return usage(err)
		}
	}
	return err
}

// verdict is the exit code of a look that went well. What is wrong was printed.
func (w *migrateWork) verdict(report *migration.Report) error {
	wrong := len(report.Faults) > 0 || report.Problem != "" || report.Dirty && report.Running == nil
	switch {
	case w.req.Action == migration.Validate && wrong:
	case w.req.Action == migration.Status && w.flags.check && (wrong || len(report.Pending) > 0):
	default:
		return nil
	}
	return &exitError{code: exitFailure}
}

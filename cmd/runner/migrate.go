package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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
and other users wait meanwhile. They connect to the database directly. What changes it is recorded in the audit stream first,
which needs NATS, unless --no-audit is given.

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
	for _, c := range migrateCommands() {
		cmd.AddCommand(newMigrateAction(&c))
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
	auditFlags

	config                       string
	json, check, outOfOrder, yes bool
	timeout                      time.Duration
}

func newMigrateAction(c *migrateCommand) *cobra.Command {
	f, least := &migrateFlags{}, 1
	if c.action.NeedsTarget() {
		least = 2
	}
	cmd := &cobra.Command{
		Use:     strings.TrimSpace(string(c.action) + " DATABASE " + c.target),
		Short:   c.short,
		Long:    c.long,
		Example: c.example,
		Args:    arguments(least, 1+len(strings.Fields(c.target))),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := migration.Request{Action: c.action, OutOfOrder: f.outOfOrder}
			if len(args) > 1 {
				req.Target = args[1]
			}
			return f.run(cmd, args[0], req)
		},
	}
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
	if !c.action.Reads() {
		f.addAudit(cmd, byUsage, reasonFlag)
	}
	if mayAsk(c.action) {
		flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	}
	return cmd
}

func mayAsk(a migration.Action) bool {
	return a == migration.Down || a == migration.Goto || a == migration.Repair
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
	if err := w.ask(cmd.Context()); err != nil {
		return err
	}
	if err := f.recordMigration(cmd, database, req); err != nil {
		return err
	}
	report, err := w.act(cmd.Context())
	if err := errors.Join(err, w.print(report, err)); err != nil {
		return w.exit(report, err)
	}
	wrong := len(report.Faults) > 0 || report.Problem != "" || report.Dirty && report.Running == nil
	if req.Action == migration.Validate && wrong || req.Action == migration.Status && f.check && (wrong || len(report.Pending) > 0) {
		return &exitError{code: exitFailure} // what is wrong was printed
	}
	return nil
}

// recordMigration writes the audit entry about an action that changes the database. It is the only use of NATS here.
func (f *migrateFlags) recordMigration(cmd *cobra.Command, database string, req migration.Request) error {
	if f.none || req.Action.Reads() {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), lookupTimeout)
	defer cancel()
	s, err := (&clientFlags{config: f.config}).connect(ctx, false)
	if err != nil {
		return notRecorded(err)
	}
	defer s.close(ctx)
	entry := &contract.AuditEntry{Action: contract.AuditMigration, Database: database, After: map[string]string{"action": string(req.Action), "target": req.Target}}
	if req.OutOfOrder {
		entry.After["out_of_order"] = "true"
	}
	return f.record(ctx, cmd, s, entry)
}

// migrateWork is one action by hand.
type migrateWork struct {
	cmd      *cobra.Command
	database string
	m        *migration.Migrator
	flags    *migrateFlags
	req      migration.Request
	reported []string // in words, before anything was done
}

// ask returns what an action is about to destroy or to overrule, and asks whether it shall, on a terminal.
func (w *migrateWork) ask(ctx context.Context) error {
	asks := !w.flags.yes && onTerminal(w.cmd.InOrStdin())
	out := w.cmd.ErrOrStderr()
	look := migration.Request{Action: migration.Plan, Target: w.req.Target, Timeout: w.req.Timeout}
	repairs := w.req.Action == migration.Repair
	switch {
	case repairs:
		look = migration.Request{Action: migration.Validate, Timeout: w.req.Timeout, OutOfOrder: true}
	case !mayAsk(w.req.Action) || !asks:
		return nil
	}
	report, err := w.m.Run(ctx, look)
	if err != nil {
		return w.exit(report, errors.Join(err, w.print(report, err)))
	}
	if !repairs { // what would be refused is left to the action itself
		if len(report.Faults) > 0 || len(report.Plan) == 0 || report.Plan[0].Direction == "up" {
			return nil
		}
		for i := range report.Plan {
			_, _ = fmt.Fprintf(out, "%s reverts version %s\n", report.Plan[i].File, report.Plan[i].Version.Label)
		}
		return confirm(ctx, w.cmd, fmt.Sprintf("Revert %s of %s?", countOf(len(report.Plan), "file"), w.database))
	}
	if report.Problem != "" {
		w.reported = append(w.reported, report.Problem)
	}
	for i := range report.Faults {
		w.reported = append(w.reported, report.Faults[i].String())
	}
	_, _ = fmt.Fprintf(out, "%s is at version %s\n", w.database, report.After.Label)
	for _, text := range w.reported {
		_, _ = fmt.Fprintln(out, "wrong:", text)
	}
	if len(w.reported) == 0 {
		_, _ = fmt.Fprintln(out, "no problems found")
	}
	if !asks {
		return nil
	}
	return confirm(ctx, w.cmd, fmt.Sprintf("Set the version of %s to %s?", w.database, w.req.Target))
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
	if report == nil && p.fileStarted() { // a session of its own reads what the action left that has lost its own
		left, leftErr := w.m.Run(context.WithoutCancel(ctx), migration.Request{Action: migration.Validate, Timeout: lookupTimeout})
		if leftErr == nil {
			report, left.Action = left, req.Action
		}
	}
	return report, err
}

// lookupTimeout bounds a lookup in the database beside the action itself.
const lookupTimeout = 15 * time.Second

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

const migrateNewHelp = `Create the next file in the database's folder, empty and named in the style of the files there:
V{version}__{description}.sql, or {version}_{title}.up.sql as golang-migrate has it. If there is none yet, create the folder and
start with V1. With --down, also create the file that reverts it. The command does not connect to the database. Every other
command refuses the empty file until you write statements into it.`

func newMigrateNew() *cobra.Command {
	f := &migrateFlags{}
	var down bool
	cmd := &cobra.Command{
		Use:     "new DATABASE \"DESCRIPTION\"",
		Short:   "Create the next migration file",
		Long:    migrateNewHelp,
		Example: "  runner migrate new rpa_db \"add priority to queue items\"\n  runner migrate new rpa_db add_queue_index --down",
		Args:    arguments(2, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.makeNext(cmd, args[0], args[1], down) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file of the runner (default: environment variables only)")
	cmd.Flags().BoolVar(&down, "down", false, "also create the file that reverts it")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the paths as JSON")
	return cmd
}

// makeNext makes the files and prints their paths.
func (f *migrateFlags) makeNext(cmd *cobra.Command, database, description string, down bool) error {
	cfg, err := f.load(database, true)
	if err != nil {
		return err
	}
	folder := cfg.Databases[database].Migrations.Folder
	names, err := migration.Next(os.DirFS(folder), description, down, time.Now())
	if _, ok := errors.AsType[*migration.FaultsError](err); ok {
		return fmt.Errorf("%s: %w", folder, err)
	}
	if err != nil {
		return usage(fmt.Errorf("%s: %w", folder, err))
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i, name := range names {
		names[i] = filepath.Join(folder, name)
		if err := makeFile(names[i]); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string][]string{"files": names})
	}
	for _, name := range names {
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), name)
	}
	return nil
}

// makeFile creates an empty file that does not exist yet. Loading refuses it until something is written into it, whereas a
// file of comments is applied and does nothing.
func makeFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/manager"
	"dbrunner/internal/plaintext"
)

const outboxHelp = `The outbox is a table in a database: a row that an application inserts in its own transaction is published as a job once that
transaction has committed. Runners relay the rows of databases that have outbox.targets. A row that can never be published is
kept with its error, until an operator retries or removes it.`

const outboxRetryHelp = `Take the error off rows, so that runners publish them again. Correct the cause first: a target that is not configured, a stream
that accepts no larger message.

A row that is too old (too_old) may have been published before, and the target may have forgotten that. Find out whether its job
took effect; if it did not, --force publishes the row as if it were inserted now.

What is retried is recorded in the audit stream first, which needs NATS, unless --no-audit is given.`

const outboxRmHelp = `Remove rows: their jobs are not published any more. It is recorded in the audit stream first, which needs NATS, unless --no-audit is
given.`

// outboxListed is how many rows are listed unless --limit says otherwise.
const outboxListed = 100

type outboxFlags struct {
	auditFlags
	config             string
	limit              int
	errors, all, force bool
	yes, json          bool
}

func newOutbox() *cobra.Command {
	cmd := &cobra.Command{Use: "outbox", Short: "Manage rows of the outbox: ddl, ls, retry, rm", Long: outboxHelp}
	cmd.AddCommand(newOutboxDDL(), newOutboxLs(), newOutboxRetry(), newOutboxRm())
	return cmd
}

func newOutboxDDL() *cobra.Command {
	return newDDL("outbox", manager.OutboxDDL)
}

func (f *outboxFlags) add(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file (default: environment variables only)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func newOutboxLs() *cobra.Command {
	f := &outboxFlags{}
	cmd := f.add(&cobra.Command{
		Use:     "ls DATABASE [--config FILE]",
		Short:   "List rows of the outbox, the oldest first",
		Example: "  runner outbox ls shop --config runner.yaml\n  runner outbox ls shop --errors",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, args[0], func(ctx context.Context, t *outboxtable.Table) error { return f.ls(ctx, cmd.OutOrStdout(), t) })
		},
	})
	cmd.Flags().BoolVar(&f.errors, "errors", false, "only rows with an error")
	cmd.Flags().IntVar(&f.limit, "limit", outboxListed, "at most this many rows")
	return cmd
}

func newOutboxRetry() *cobra.Command {
	f := &outboxFlags{}
	cmd := f.add(&cobra.Command{
		Use:     "retry DATABASE (TOKEN... | --all)",
		Short:   "Publish rows with an error again",
		Long:    outboxRetryHelp,
		Example: "  runner outbox retry shop 6f1c0d1e-8f0a-4c39-9d5e-0c5f6d1f9a77\n  runner outbox retry shop --all",
		Args:    arguments(1, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, args[0], func(ctx context.Context, t *outboxtable.Table) error {
				return f.retry(ctx, cmd, t, args[0], args[1:])
			})
		},
	})
	cmd.Flags().BoolVar(&f.all, "all", false, "all rows with an error; those that are too old only with --force")
	cmd.Flags().BoolVar(&f.force, "force", false, "also rows that are too old: their jobs did not take effect")
	f.addAudit(cmd, byUsage, reasonFlag)
	return cmd
}

func newOutboxRm() *cobra.Command {
	f := &outboxFlags{}
	cmd := f.add(&cobra.Command{
		Use:     "rm DATABASE TOKEN...",
		Short:   "Remove rows: their jobs are not published any more",
		Long:    outboxRmHelp,
		Example: "  runner outbox rm shop 6f1c0d1e-8f0a-4c39-9d5e-0c5f6d1f9a77",
		Args:    arguments(2, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, args[0], func(ctx context.Context, t *outboxtable.Table) error { return f.rm(ctx, cmd, t, args[0], args[1:]) })
		},
	})
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	f.addAudit(cmd, byUsage, reasonFlag)
	return cmd
}

// with opens the outbox of a database and does something within the client's time limit.
func (f *outboxFlags) with(cmd *cobra.Command, database string, do func(context.Context, *outboxtable.Table) error) (err error) {
	cfg, err := loadConfig(f.config, false)
	if err != nil {
		return err
	}
	d, ok := cfg.Databases[database]
	switch {
	case !ok:
		return usage(fmt.Errorf("the configuration has no database %q", database))
	case d.OutboxConnection().Empty():
		return usage(fmt.Errorf("database %s has no outbox; write databases.%s.outbox", database, database))
	}
	table, err := manager.OpenOutbox(cfg, database)
	if err != nil {
		return configFault(err)
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	ctx, cancel := context.WithTimeout(cmd.Context(), clientTimeout)
	defer cancel()
	return do(ctx, table)
}

func (f *outboxFlags) ls(ctx context.Context, w io.Writer, t *outboxtable.Table) error {
	if f.limit < 1 {
		return usage(errors.New("--limit must be at least 1"))
	}
	found, err := t.List(ctx, f.errors, f.limit)
	if err != nil {
		return err
	}
	if f.json {
		return printJSON(w, found)
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "no rows")
		return err
	}
	rows := [][]string{{"TOKEN", "ID", "TARGET", "BYTES", "AGE", "STATE"}}
	for i := range found {
		r := &found[i]
		state := "waiting"
		if r.Claimed {
			state = "claimed"
		}
		rows = append(rows, []string{
			r.Token, clip(r.ID, maxColumn), clip(r.Target, maxColumn), strconv.FormatInt(r.Bytes, 10), r.Age.Round(time.Second).String(),
			cmp.Or(r.Error, state),
		})
	}
	return table(w, "", rows, styleFor(w).bold)
}

// maxColumn bounds a text in a column.
const maxColumn = 60

// tooOld starts the error of rows that may have been published before.
const tooOld = "too_old:"

func (f *outboxFlags) retry(ctx context.Context, cmd *cobra.Command, t *outboxtable.Table, database string, tokens []string) error {
	if f.all == (len(tokens) > 0) {
		return usage(errors.New("give either tokens or --all"))
	}
	found, err := t.List(ctx, true, outboxtable.MaxCount)
	if err != nil {
		return err
	}
	var old, others []string
	errorOf := map[string]string{}
	for i := range found {
		errorOf[found[i].Token] = found[i].Error
		if f.all {
			tokens = append(tokens, found[i].Token)
		}
	}
	for _, token := range tokens {
		switch text, ok := errorOf[token]; {
		case !ok:
			return fmt.Errorf("no row with an error has the token %s; runner outbox ls --errors lists them; nothing was changed", plaintext.Visible(token, ""))
		case strings.HasPrefix(text, tooOld):
			old = append(old, token)
		default:
			others = append(others, token)
		}
	}
	if len(old) > 0 && !f.force && !f.all {
		return errors.New("a row is too old, and its job may have taken effect; find out whether it did, then use --force or runner outbox rm; nothing was changed")
	}
	targets := others
	if f.force {
		targets = slices.Concat(others, old)
	}
	if err := f.recordRows(ctx, cmd, database, "retried", targets); err != nil {
		return err
	}
	retried, err := t.Retry(ctx, others, false)
	if err == nil && f.force {
		var renewed int64
		renewed, err = t.Retry(ctx, old, true)
		retried, old = retried+renewed, nil
	}
	if err != nil {
		return err
	}
	return f.done(cmd.OutOrStdout(), "retried", retried, len(old))
}

// recordRows writes the audit entry about rows that are about to change. It is the only use of NATS here.
func (f *outboxFlags) recordRows(ctx context.Context, cmd *cobra.Command, database, change string, tokens []string) error {
	if f.none || len(tokens) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	s, err := (&clientFlags{config: f.config}).connect(ctx, false)
	if err != nil {
		return notRecorded(err)
	}
	defer s.close(ctx)
	return f.record(ctx, cmd, s, &contract.AuditEntry{
		Action: contract.AuditOutbox, Database: database, Targets: tokens, After: map[string]string{"change": change},
	})
}

// done prints how many rows a command has changed, and how many it has left because they are too old.
func (f *outboxFlags) done(w io.Writer, what string, n int64, left int) error {
	if f.json {
		return printJSON(w, map[string]int64{what: n, "left": int64(left)})
	}
	_, err := fmt.Fprintf(w, "%s: %d\n", what, n)
	if err == nil && left > 0 {
		return &exitError{code: exitFailure, err: fmt.Errorf("left: %d rows are too old, and their jobs may have taken effect; find out, then use --force", left)}
	}
	return err
}

func (f *outboxFlags) rm(ctx context.Context, cmd *cobra.Command, t *outboxtable.Table, database string, tokens []string) error {
	if !f.yes {
		if err := confirm(ctx, cmd, fmt.Sprintf("remove %d rows? Their jobs are lost unless they were published.", len(tokens))); err != nil {
			return err
		}
	}
	if err := f.recordRows(ctx, cmd, database, "removed", tokens); err != nil {
		return err
	}
	n, err := t.Remove(ctx, tokens)
	if err != nil {
		return err
	}
	return f.done(cmd.OutOrStdout(), "removed", n, 0)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
)

// auditFlags are those of commands that act: they write an audit entry first.
type auditFlags struct {
	by, why string
	none    bool
}

// The flags' usual words.
const (
	byUsage    = "who acts, for the audit entry (default: this user's name)"
	reasonFlag = "reason"
)

// addAudit adds the flags; why names the one for the reason.
func (f *auditFlags) addAudit(cmd *cobra.Command, by, why string) {
	cmd.Flags().StringVar(&f.by, "by", "", by)
	cmd.Flags().StringVar(&f.why, why, "", "why, for the audit entry")
	cmd.Flags().BoolVar(&f.none, "no-audit", false, "act without an audit entry")
}

// record writes the entry about what the command is about to do. Without it, nothing is done; a missing stream is only a
// warning.
func (f *auditFlags) record(ctx context.Context, cmd *cobra.Command, s *session, e *contract.AuditEntry) error {
	if f.none {
		return nil
	}
	e.By, e.Tool, e.Reason = cmp.Or(f.by, thisUser()), cmd.CommandPath(), f.why
	err := client.WriteAudit(ctx, s.Client, e)
	stream := s.conn.Subjects().AuditStream()
	switch {
	case errors.Is(err, client.ErrNoAudit):
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "runner: warning: not recorded, because the stream %s is missing; runner topology apply creates it\n", stream)
		return nil
	case errors.Is(err, client.ErrAuditFull):
		return notRecorded(fmt.Errorf("the stream %s is full; raise topology.audit.max_bytes and run runner topology apply: %w", stream, err))
	case errors.Is(err, client.ErrDenied):
		return notRecorded(fmt.Errorf("%w; grant the permission (docs/security.md)", err))
	case err != nil:
		return notRecorded(err)
	}
	return nil
}

// notRecorded is the error of a command that did nothing.
func notRecorded(err error) error {
	return fmt.Errorf("nothing was done, because it could not be recorded: %w; --no-audit acts without an entry", err)
}

const auditHelp = `Show what operators did: cancelled jobs, paused and resumed databases, approved dry runs, redrove and removed dead letters, migrated by hand, and
changed streams. Each entry was written before the action, by the tool that then acted.
`

func newAudit() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Show what operators did: ls", Long: auditHelp + clientHelp}
	cmd.AddCommand(newAuditList())
	return cmd
}

type auditListFlags struct {
	clientFlags
	database, action string
	since            time.Duration
	newest           int
	json             bool
}

func newAuditList() *cobra.Command {
	f := &auditListFlags{}
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List audit entries, oldest first",
		Long:    "List the newest audit entries, oldest first. Times are the server's.\n" + clientHelp,
		Example: "  runner audit ls\n  runner audit ls --database shop --since 24h\n  runner audit ls --action redrive --json",
		Args:    arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.list(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.database, "database", "d", "", "only entries of this database")
	flags.StringVar(&f.action, "action", "", "only this action: "+strings.Join(allActions(), ", "))
	flags.DurationVar(&f.since, "since", 0, "only entries stored within this time, such as 24h")
	flags.IntVar(&f.newest, "newest", 100, "only this many entries, the newest")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func allActions() []string { return append(contract.AuditActions(), contract.AuditTopology) }

func (f *auditListFlags) list(cmd *cobra.Command) error {
	switch {
	case f.since < 0:
		return usage(errors.New("--since must not be below zero"))
	case f.newest < 1:
		return usage(errors.New("--newest must be at least 1"))
	case f.database != "" && !contract.ValidName(f.database):
		return usage(errors.New("a database is 1 to 64 of A-Z a-z 0-9 _ -"))
	}
	if err := oneOf("--action", f.action, allActions()); err != nil {
		return err
	}
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		filter := client.AuditFilter{Database: f.database, Action: f.action, Newest: f.newest}
		if f.since > 0 {
			filter.Since = time.Now().Add(-f.since)
		}
		entries, err := client.AuditEntries(ctx, s.Client, filter)
		if errors.Is(err, client.ErrNoAudit) {
			err = fmt.Errorf("the stream %s is missing; runner topology apply creates it", s.conn.Subjects().AuditStream())
		}
		if err != nil {
			return err
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), entries)
		}
		return printAudit(cmd.OutOrStdout(), entries)
	})
}

func printAudit(w io.Writer, entries []client.StoredAudit) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "no entries")
		return err
	}
	rows := [][]string{{"STORED", "BY", "ACTION", "DATABASE", "TARGETS", "REASON", "DETAILS"}}
	for i := range entries {
		e := &entries[i]
		targets := strings.Join(e.Targets[:min(len(e.Targets), 1)], "")
		if e.Count > 1 {
			targets += " +" + strconv.Itoa(e.Count-1)
		}
		rows = append(rows, []string{
			e.Stored.UTC().Format(time.RFC3339), e.By, e.Action, cmp.Or(e.Database, "-"), clip(targets, 60), clip(e.Reason, 60), clip(auditDetails(e), 80),
		})
	}
	return table(w, "", rows)
}

// auditDetails are what an action replaced and asked for.
func auditDetails(e *client.StoredAudit) string {
	var out []string
	for _, part := range []struct {
		name   string
		values map[string]string
	}{{"was", e.Before}, {"now", e.After}} {
		for _, key := range slices.Sorted(maps.Keys(part.values)) {
			out = append(out, part.name+" "+key+": "+part.values[key])
		}
	}
	return strings.Join(out, ", ")
}

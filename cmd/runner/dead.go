package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/plaintext"
)

const deadHelp = `Manage dead letters: copies of jobs that were rejected, failed, finished as unknown, reused an id or were delivered too
often. Each job also has its stored result; use its dead letter to correct the cause and run the job again.

The name of a dead letter consists of its database, its kind and its own id, joined by dots, as "dead ls" prints it.
` + clientHelp

func newDead() *cobra.Command {
	cmd := &cobra.Command{Use: "dead", Short: "Manage dead letters: ls, show, redrive, rm", Long: deadHelp}
	cmd.AddCommand(newDeadList(), newDeadShow(), newDeadRedrive(), newDeadRemove())
	return cmd
}

// deadLetterView is a dead letter as it is printed.
type deadLetterView struct {
	DeadLetter string          `json:"letter"`
	Stored     time.Time       `json:"stored"`
	JobID      string          `json:"job_id"`
	Reason     string          `json:"reason"`
	Code       string          `json:"code"`
	Message    string          `json:"message"`
	Faults     json.RawMessage `json:"faults,omitempty"`
	ResultID   string          `json:"result_id,omitempty"`
	QueuedAt   string          `json:"queued_at,omitempty"`
	Sequence   string          `json:"sequence,omitempty"`
	Deliveries string          `json:"deliveries,omitempty"`
	Runner     string          `json:"runner,omitempty"`
	Subject    string          `json:"subject,omitempty"`
	RedriveOf  string          `json:"redrive_of,omitempty"`

	// Only of a dead letter that is shown alone.
	Headers map[string][]string `json:"headers,omitempty"` // the job's own
	Body    *string             `json:"body,omitempty"`
}

func viewDeadLetter(l *client.DeadLetter) deadLetterView {
	header := l.Headers.Get
	v := deadLetterView{
		DeadLetter: l.Name(), Stored: l.Stored.UTC(),
		JobID: l.JobID(), Reason: l.Reason(), Code: header(contract.HeaderCode),
		Message: header(contract.HeaderMessage), ResultID: header(contract.HeaderResultID),
		QueuedAt: header(contract.HeaderQueuedAt), Sequence: header(contract.HeaderSequence),
		Deliveries: header(contract.HeaderDeliveries), Runner: header(contract.HeaderRunner),
		Subject:   header(contract.HeaderSubject),
		RedriveOf: header(contract.HeaderOriginal + contract.HeaderRedriveOf),
	}
	if faults := header(contract.HeaderFaults); json.Valid([]byte(faults)) {
		v.Faults = json.RawMessage(faults)
	}
	return v
}

type deadFlags struct {
	clientFlags
	deadLetterFilter
	limit       int
	count, json bool
}

func newDeadList() *cobra.Command {
	f := &deadFlags{}
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List dead letters, oldest first",
		Long:  "List dead letters, oldest first. With --count, print their number per database, kind, reason and code.\n" + clientHelp,
		Example: "  runner dead ls --newest 20\n  runner dead ls --database shop --reason failed --since 2h\n  runner dead ls --count\n" +
			"  runner dead ls --json | jq -r '.[].letter'",
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.list(cmd) },
	}
	flags := cmd.Flags()
	f.addFilter(cmd)
	flags.IntVar(&f.limit, "limit", 100, "maximum number of dead letters")
	flags.BoolVar(&f.count, "count", false, "print counts instead of dead letters")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *deadFlags) list(cmd *cobra.Command) error {
	if f.limit < 1 {
		return usage(errors.New("--limit must be at least 1"))
	}
	if err := f.checkFilter(); err != nil {
		return err
	}
	if !f.count && f.newest == 0 {
		f.most = f.limit + 1 // one more than is shown, to say so
	}
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		views, err := f.chosen(ctx, s)
		if err != nil {
			return err
		}
		if f.count {
			return printCounts(cmd.OutOrStdout(), views, f.json)
		}
		if len(views) > f.limit && f.newest == 0 {
			views = views[:f.limit]
			_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "runner: more exist; see --limit and --newest")
		}
		switch {
		case f.json:
			return printJSON(cmd.OutOrStdout(), views)
		case len(views) == 0:
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "no dead letters")
			return err
		}
		rows := [][]string{{"LETTER", "STORED", "JOB", "REASON", "CODE", "MESSAGE"}}
		for i := range views {
			v := &views[i]
			rows = append(rows, []string{v.DeadLetter, v.Stored.Format(time.RFC3339), v.JobID, v.Reason, v.Code, clip(v.Message, 60)})
		}
		return table(cmd.OutOrStdout(), "", rows)
	})
}

// deadLetterCount is the number of dead letters with the same labels.
type deadLetterCount struct {
	Database    string `json:"database"`
	Kind        string `json:"kind"`
	Reason      string `json:"reason"`
	Code        string `json:"code"`
	DeadLetters int    `json:"letters"`
}

func printCounts(w io.Writer, views []deadLetterView, asJSON bool) error {
	counts := []deadLetterCount{}
	for i := range views {
		parts := strings.Split(views[i].DeadLetter, ".")
		c := deadLetterCount{Database: parts[0], Kind: parts[1], Reason: views[i].Reason, Code: views[i].Code}
		at := slices.IndexFunc(counts, func(have deadLetterCount) bool { have.DeadLetters = 0; return have == c })
		if at < 0 {
			at, counts = len(counts), append(counts, c)
		}
		counts[at].DeadLetters++
	}
	slices.SortFunc(counts, func(a, b deadLetterCount) int { return b.DeadLetters - a.DeadLetters })
	if asJSON {
		return printJSON(w, counts)
	}
	rows := [][]string{{"LETTERS", "DATABASE", "KIND", "REASON", "CODE"}}
	for _, c := range counts {
		rows = append(rows, []string{strconv.Itoa(c.DeadLetters), c.Database, c.Kind, c.Reason, c.Code})
	}
	return table(w, "", append(rows, []string{strconv.Itoa(len(views)), "all", "", "", ""}))
}

func newDeadShow() *cobra.Command {
	f := &deadFlags{}
	cmd := &cobra.Command{
		Use:     "show LETTER",
		Short:   "Show a dead letter with its job's body",
		Long:    "Show prints why the job became a dead letter, its headers, and its body as published.\n" + clientHelp,
		Example: "  runner dead show shop.transaction.s42_cz1n2hxkq8s1",
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.show(cmd, args[0]) },
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *deadFlags) show(cmd *cobra.Command, name string) error {
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		deadLetter, err := findDeadLetter(ctx, s, name)
		if err != nil {
			return err
		}
		v := viewDeadLetter(deadLetter)
		text := string(deadLetter.Body)
		v.Body, v.Headers = &text, deadLetter.JobHeaders()
		if f.json {
			return printJSON(cmd.OutOrStdout(), v)
		}
		rows := [][]string{
			{"letter", v.DeadLetter},
			{"stored", v.Stored.Format(time.RFC3339)},
			{"job", v.JobID},
			{"reason", v.Reason},
			{"code", v.Code},
			{"message", v.Message},
			{"result", v.ResultID},
			{"queued", v.QueuedAt},
			{"sequence", v.Sequence},
			{"deliveries", v.Deliveries},
			{"runner", v.Runner},
			{"subject", v.Subject},
			{"redrive of", v.RedriveOf},
		}
		var faults []struct{ Path, Message string }
		if json.Unmarshal(v.Faults, &faults) == nil {
			for _, fault := range faults {
				rows = append(rows, []string{"fault", cmp.Or(fault.Path, "(whole body)") + ": " + fault.Message})
			}
		}
		for name, values := range v.Headers {
			rows = append(rows, []string{"header", name + ": " + strings.Join(values, ", ")})
		}
		rows = slices.DeleteFunc(rows, func(row []string) bool { return row[1] == "" })
		if err := table(cmd.OutOrStdout(), "", rows); err != nil {
			return err
		}
		if onTerminal(cmd.OutOrStdout()) {
			text = plaintext.Visible(text, "\n\t")
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "\n%s\n", text)
		return err
	})
}

// findDeadLetter reads the dead letter of a name, which may be its whole subject.
func findDeadLetter(ctx context.Context, s *session, name string) (*client.DeadLetter, error) {
	parts := strings.Split(strings.TrimPrefix(name, s.cfg.Namespace+".dead."), ".")
	if len(parts) != 3 {
		return nil, usage(fmt.Errorf("%q names no dead letter: write database.kind.id, as dead ls prints it", name))
	}
	deadLetter, err := s.DeadLetter(ctx, parts[0], parts[1], parts[2])
	if errors.Is(err, client.ErrNoDeadLetter) {
		err = fmt.Errorf("there is no dead letter %s; runner dead ls lists them", strings.Join(parts, "."))
	}
	return deadLetter, err
}

const deadRemoveHelp = `Remove the named dead letters or, with --all, those that match the filters. The stored results of their jobs stay.
"dead redrive" cannot publish removed jobs again.
` + clientHelp

func newDeadRemove() *cobra.Command {
	f := &deadLetterFlags{}
	cmd := &cobra.Command{
		Use:     "rm [LETTER...]",
		Short:   "Remove dead letters",
		Long:    deadRemoveHelp,
		Example: "  runner dead rm shop.transaction.s42_cz1n2hxkq8s1\n  runner dead rm --all --database shop --code undefined_object --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, names, err := f.open(cmd, args, "removed")
			if err != nil {
				return err
			}
			defer s.close(cmd.Context())
			if err := f.recordDeadLetters(cmd, s, contract.AuditRemove, names, nil); err != nil {
				return err
			}
			removed := 0
			err = eachDeadLetter(cmd, s, names, func(ctx context.Context, deadLetter *client.DeadLetter) error {
				err := s.DeleteDeadLetter(ctx, deadLetter)
				if err == nil {
					removed++
				}
				return err
			})
			_, printed := fmt.Fprintf(cmd.OutOrStdout(), "removed %d of %d dead letters\n", removed, len(names))
			return errors.Join(err, printed)
		},
	}
	f.add(cmd)
	return cmd
}

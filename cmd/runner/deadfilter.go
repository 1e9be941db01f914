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

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/jobs"
)

// deadLetterFilter chooses dead letters.
type deadLetterFilter struct {
	database, kind, reason, code string
	since                        time.Duration
	newest                       int
	most                         int // that are read, of the oldest; 0: all
}

func (f *deadLetterFilter) addFilter(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.database, "database", "d", "", "only dead letters of this database")
	flags.StringVarP(&f.kind, "kind", "k", "", "only dead letters of this kind of job")
	flags.StringVar(&f.reason, "reason", "", "only dead letters with this reason")
	flags.StringVar(&f.code, "code", "", "only dead letters with this error code")
	flags.DurationVar(&f.since, "since", 0, "only dead letters stored within this time, such as 2h")
	flags.IntVar(&f.newest, "newest", 0, "only this many dead letters, the newest")
}

func (f *deadLetterFilter) checkFilter() error {
	if f.since < 0 || f.newest < 0 {
		return usage(errors.New("--since and --newest must not be below zero"))
	}
	return errors.Join(oneOf("--reason", f.reason, contract.DeadLetterReasons()), oneOf("--kind", f.kind, jobs.Kinds()))
}

// oneOf checks a flag that is a word, if it is given.
func oneOf(flag, word string, known []string) error {
	if word == "" || slices.Contains(known, word) {
		return nil
	}
	return usage(fmt.Errorf("%s %q is unknown; write one of %s", flag, word, strings.Join(known, ", ")))
}

// chosen reads the dead letters that the filter lets through, oldest first.
func (f *deadLetterFilter) chosen(ctx context.Context, s *session) ([]deadLetterView, error) {
	views := []deadLetterView{}
	after := time.Now().Add(-f.since)
	err := s.DeadLetters(ctx, client.DeadLetterFilter{Database: f.database, Kind: f.kind}, func(l *client.DeadLetter) error {
		v := viewDeadLetter(l)
		if f.reason != "" && v.Reason != f.reason || f.code != "" && v.Code != f.code || f.since > 0 && v.Stored.Before(after) {
			return nil
		}
		if f.newest > 0 && len(views) == f.newest {
			views = slices.Delete(views, 0, 1)
		}
		if views = append(views, v); len(views) == f.most {
			return client.ErrEnough
		}
		return nil
	})
	return views, err
}

// deadLetterFlags choose the dead letters that a command does something to: by name or, with --all, by the filter.
type deadLetterFlags struct {
	clientFlags
	deadLetterFilter
	auditFlags
	all, yes bool
}

func (f *deadLetterFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.all, "all", false, "all dead letters that match the filters")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	f.addFilter(cmd)
	f.addAudit(cmd, byUsage, "why")
	f.clientFlags.add(cmd)
}

// open connects and returns the names of the chosen dead letters; with --all, once they are confirmed. The caller closes the
// session.
func (f *deadLetterFlags) open(cmd *cobra.Command, names []string, what string) (*session, []string, error) {
	switch {
	case f.all == (len(names) > 0):
		return nil, nil, usage(errors.New("name dead letters, or give --all"))
	case !f.all && slices.ContainsFunc([]string{"database", "kind", "reason", "code", "since", "newest", "yes"}, cmd.Flags().Changed):
		return nil, nil, usage(errors.New("filters and --yes go with --all"))
	}
	if err := f.checkFilter(); err != nil {
		return nil, nil, err
	}
	ctx := cmd.Context()
	s, err := f.connect(ctx, false)
	if err != nil || !f.all {
		return s, names, err
	}
	bounded, cancel := context.WithTimeout(ctx, 10*clientTimeout)
	defer cancel()
	views, err := f.chosen(bounded, s)
	if err == nil && len(views) > 0 && !f.yes {
		if onTerminal(cmd.InOrStdin()) {
			err = confirm(ctx, cmd, fmt.Sprintf("%d dead letters will be %s. Continue?", len(views), what))
		} else {
			err = usage(fmt.Errorf("%d dead letters would be %s; add --yes to confirm", len(views), what))
		}
	}
	if err != nil {
		s.close(ctx)
		return nil, nil, err
	}
	for i := range views {
		names = append(names, views[i].DeadLetter)
	}
	return s, names, nil
}

// recordDeadLetters writes one audit entry for each database whose dead letters the command is about to act on.
func (f *deadLetterFlags) recordDeadLetters(cmd *cobra.Command, s *session, action string, names []string, after map[string]string) error {
	of := map[string][]string{}
	for _, name := range names {
		name = strings.TrimPrefix(name, s.cfg.Namespace+".dead.")
		if database, _, ok := strings.Cut(name, "."); ok && contract.ValidName(database) { // another name is refused when its dead letter is read
			of[database] = append(of[database], name)
		}
	}
	for _, database := range slices.Sorted(maps.Keys(of)) {
		entry := &contract.AuditEntry{Action: action, Database: database, Targets: of[database], After: after}
		if err := f.record(cmd.Context(), cmd, s, entry); err != nil {
			return err
		}
	}
	return nil
}

// progressEvery is after how many dead letters a line is written.
const progressEvery = 100

// eachDeadLetter does something to each dead letter, reports its progress, and returns what could not be done. It stops where the
// command's context ends.
func eachDeadLetter(cmd *cobra.Command, s *session, names []string, do func(context.Context, *client.DeadLetter) error) error {
	ctx := cmd.Context()
	var errs []error
	for i, name := range names {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("stopped after %d of %d dead letters: %w", i, len(names), context.Cause(ctx)))
			break
		}
		if i > 0 && i%progressEvery == 0 {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "runner: %d of %d dead letters\n", i, len(names))
		}
		bounded, cancel := context.WithTimeout(ctx, clientTimeout)
		deadLetter, err := findDeadLetter(bounded, s, name)
		if err == nil {
			err = do(bounded, deadLetter)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
)

// letterFilter chooses dead letters.
type letterFilter struct {
	database string
	kind     string
	reason   string
	code     string
	since    time.Duration
	newest   int
}

func (f *letterFilter) addFilter(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.database, "database", "d", "", "only dead letters of this database")
	flags.StringVarP(&f.kind, "kind", "k", "", "only dead letters of this kind of job")
	flags.StringVar(&f.reason, "reason", "", "only dead letters with this reason")
	flags.StringVar(&f.code, "code", "", "only dead letters with this error code")
	flags.DurationVar(&f.since, "since", 0, "only dead letters stored within this time, such as 2h")
	flags.IntVar(&f.newest, "newest", 0, "only this many dead letters, the newest")
}

func (f *letterFilter) checkFilter() error {
	if f.since < 0 || f.newest < 0 {
		return usage(errors.New("--since and --newest must not be below zero"))
	}
	return nil
}

// chosen reads the dead letters that the filter lets through, oldest first.
func (f *letterFilter) chosen(ctx context.Context, s *session) ([]deadLetterView, error) {
	views := []deadLetterView{}
	after := time.Now().Add(-f.since)
	err := s.DeadLetters(ctx, client.DeadLetterFilter{Database: f.database, Kind: f.kind}, func(l *client.DeadLetter) error {
		v := viewLetter(l)
		if f.reason != "" && v.Reason != f.reason || f.code != "" && v.Code != f.code || f.since > 0 && v.Stored.Before(after) {
			return nil
		}
		if f.newest > 0 && len(views) == f.newest {
			views = slices.Delete(views, 0, 1)
		}
		views = append(views, v)
		return nil
	})
	return views, err
}

// confirmAll asks whether all of the dead letters are meant, unless --yes was given.
func confirmAll(ctx context.Context, cmd *cobra.Command, letters int, what string, yes bool) error {
	if yes {
		return nil
	}
	if !onTerminal(cmd.InOrStdin()) {
		return usage(fmt.Errorf("%d dead letters would be %s; add --yes to confirm", letters, what))
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d dead letters will be %s. Continue? [y/N] ", letters, what)
	answer, err := readLine(ctx, cmd.InOrStdin())
	if err == nil && !isYes(answer) {
		err = errors.New("not confirmed; nothing was changed")
	}
	return err
}

// progressEvery is after how many dead letters a line is written.
const progressEvery = 100

// each does something to each dead letter, reports its progress, and returns what could not be done. It stops where ctx ends.
func eachLetter(ctx context.Context, cmd *cobra.Command, names []string, do func(ctx context.Context, name string) error) error {
	var errs []error
	for i, name := range names {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("stopped after %d of %d letters: %w", i, len(names), context.Cause(ctx)))
			break
		}
		if i > 0 && i%progressEvery == 0 {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "runner: %d of %d letters\n", i, len(names))
		}
		bounded, cancel := context.WithTimeout(ctx, clientTimeout)
		if err := do(bounded, name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}

// letterNames are the dead letters of the arguments, or those of the filter, once they are confirmed.
func letterNames(ctx context.Context, cmd *cobra.Command, s *session, f *letterFilter, args []string, what string, yes bool) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	bounded, cancel := context.WithTimeout(ctx, 10*clientTimeout)
	defer cancel()
	views, err := f.chosen(bounded, s)
	if err != nil || len(views) == 0 {
		return nil, err
	}
	if err := confirmAll(ctx, cmd, len(views), what, yes); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(views))
	for i := range views {
		names = append(names, views[i].Letter)
	}
	return names, nil
}

// checkAll refuses a line that names letters and chooses them too, or neither.
func (f *letterFilter) checkAll(cmd *cobra.Command, args []string, all bool) error {
	switch {
	case all == (len(args) > 0):
		return usage(errors.New("name letters, or give --all"))
	case !all && slices.ContainsFunc([]string{"database", "kind", "reason", "code", "since", "newest", "yes"}, cmd.Flags().Changed):
		return usage(errors.New("filters and --yes go with --all"))
	}
	return f.checkFilter()
}

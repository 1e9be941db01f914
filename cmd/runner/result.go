package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
)

const resultHelp = `Print the stored result of a job or, with --output, write its rows to a file, whether they are in the result or in the object
store. Rows from the object store are verified against their digest; the file gets its name only when it is complete.

Rows in the result can be written in any format; rows in the object store keep the format that the job requested.

If no result is stored any more, a runner is asked for the answer that the database's ledger has for the job
(dbrunner.api.result.<database>.<id>), which is there as long as the id is in use: ledger.retention, 48 hours by default.

Exit codes: 0 the result exists, with any status; 1 there is none, or its rows could not be fetched; 78 the command line is
wrong.
` + clientHelp

type resultFlags struct {
	clientFlags
	outputFlags
	json    bool
	timeout time.Duration
}

func newResult() *cobra.Command {
	cmd := &cobra.Command{
		Use: "result", Short: "Read stored results: get",
		Long: "Result reads stored results: each finished job has one, kept for a day (topology.results.max_age).",
	}
	f := &resultFlags{}
	get := &cobra.Command{
		Use:     "get DATABASE JOB-ID",
		Short:   "Print a stored result, or write its rows to a file",
		Long:    resultHelp,
		Example: "  runner result get shop orders-2026\n  runner result get shop orders-2026 --output orders.csv.zst",
		Args:    arguments(2, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	get.Flags().BoolVar(&f.json, "json", false, "print the result's own JSON")
	get.Flags().DurationVar(&f.timeout, "timeout", time.Hour, "time limit for reading")
	f.clientFlags.add(get)
	f.outputFlags.add(get)
	cmd.AddCommand(get)
	return cmd
}

func (f *resultFlags) run(cmd *cobra.Command, database, id string) error {
	switch {
	case !contract.ValidName(database):
		return usage(errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -"))
	case f.timeout <= 0:
		return usage(errors.New("--timeout must be above zero"))
	}
	if err := f.complete(); err != nil {
		return usage(err)
	}
	out, err := f.create()
	if err != nil {
		return err
	}
	defer out.discard()
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	s, err := f.connect(ctx, false)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	r, err := s.Result(ctx, database, id)
	if errors.Is(err, client.ErrNoResult) {
		if r, err = s.recorded(ctx, database, id); err != nil {
			err = fmt.Errorf("no result of job %s is stored in %s: it has not finished, or its result has expired; %w", id, database, err)
		}
	}
	switch {
	case err != nil:
		return err
	case f.file != "":
		return f.save(ctx, cmd, s, r, out)
	}
	return printAnswer(cmd.OutOrStdout(), r, f.json)
}

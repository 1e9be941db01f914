package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/plaintext"
)

const psHelp = `List the jobs that runners have in flight, of one database or of all: each job that was delivered to a runner and is not
acknowledged yet. Every runner answers for itself. The list of runners comes from their heartbeats: a runner that has one
and does not answer within --wait is named, with the time of its last heartbeat. It may be killed, stopped or cut off.

QUEUE is the queue that the job was published to, "-" if none. STATE is waiting (for a connection, for its database, or in quarantine), executing, settling (its result is being
stored), or awaiting_resume (it failed, and its ordered queue waits for "runner resume --queue QUEUE --job JOB"). SINCE is when the runner received the job, FOR how long ago that was by the runner's own clock. "(lease lost)"
marks a job that another runner may have as well.

Exit codes: 0 all runners answered; 1 the request failed, or there is no runner; 5 some runners did not answer; 78 the
command line is wrong.
` + clientHelp

type psFlags struct {
	clientFlags
	wait time.Duration
	json bool
}

func newPs() *cobra.Command {
	f := &psFlags{}
	cmd := &cobra.Command{
		Use:     "ps [DATABASE]",
		Short:   "List the jobs in flight",
		Long:    psHelp,
		Example: "  runner ps\n  runner ps shop --wait 3s --json",
		Args:    arguments(0, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().DurationVar(&f.wait, "wait", client.DefaultRunningWait, "how long to wait for runners that do not answer")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *psFlags) run(cmd *cobra.Command, databases []string) error {
	switch {
	case len(databases) > 0 && !contract.ValidName(databases[0]):
		return usage(errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -"))
	case f.wait <= 0:
		return usage(errors.New("--wait must be above zero"))
	}
	ctx, stop := context.WithTimeout(cmd.Context(), clientTimeout+f.wait)
	defer stop()
	s, err := f.connect(ctx, true)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	found, err := s.Running(ctx, client.RunningOptions{Databases: databases, Wait: f.wait})
	if err != nil {
		return err
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), found)
	} else if len(found.Jobs) > 0 {
		err = table(cmd.OutOrStdout(), "", runningRows(found.Jobs))
	}
	if err != nil {
		return err
	}
	if !f.json {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), plaintext.Visible(runningSummary(found), ""))
	}
	if len(found.Missing) == 0 {
		return nil
	}
	return &exitError{exitTimeout, errors.New(missingText(found.Missing))}
}

// runningRows is the table of jobs in flight.
func runningRows(jobs []client.RunningJob) [][]string {
	rows := [][]string{{"DATABASE", "JOB", "KIND", "QUEUE", "RUNNER", "STATE", "SINCE", "FOR", "DELIVERIES", "ATTEMPTS"}}
	for i := range jobs {
		j := &jobs[i]
		state := j.State
		if j.Code != "" {
			state += " (" + j.Code + ")"
		}
		if j.LeaseLost {
			state += " (lease lost)"
		}
		rows = append(rows, []string{
			j.Database, j.JobID, strings.TrimSuffix(j.Kind+"."+j.Call, "."), cmp.Or(j.Queue, "-"), j.Runner, state, j.Since.UTC().Format(time.RFC3339), seconds(j.Seconds),
			strconv.FormatUint(j.Deliveries, 10), strconv.FormatUint(j.Attempts, 10),
		})
	}
	return rows
}

// seconds writes a duration for people.
func seconds(s float64) string {
	return max(time.Duration(s*float64(time.Second)), 0).Round(100 * time.Millisecond).String()
}

// runningSummary returns how much of the fleet the list shows.
func runningSummary(found *client.Running) string {
	runners := map[string]bool{}
	for _, r := range found.Runners {
		runners[r.Runner+" "+r.Process] = true
	}
	text := fmt.Sprintf("%s in flight on %s", counted(len(found.Jobs), "job"), counted(len(runners), "runner"))
	if found.Unlisted != "" {
		text += "; others may exist: the list of runners is not available: " + found.Unlisted
	}
	return text
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// missingText names the runners that did not answer.
func missingText(missing []client.MissingRunner) string {
	var names []string
	for _, m := range missing {
		text := m.Runner + " for " + m.Database
		var about []string
		if m.Received > 0 {
			about = append(about, counted(m.Received, "job")+" of its answer arrived")
		}
		if !m.HeartbeatAt.IsZero() {
			about = append(about, cmp.Or(m.State, "no state")+", last heartbeat "+time.Since(m.HeartbeatAt).Round(time.Second).String()+" ago")
		}
		if len(about) > 0 {
			text += " (" + strings.Join(about, "; ") + ")"
		}
		names = append(names, text)
	}
	return "no answer from " + strings.Join(names, ", ") + "; their jobs are not listed"
}

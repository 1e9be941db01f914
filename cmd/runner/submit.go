package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/manager"
)

const submitHelp = `Publish one job and wait for its stored result.

The job comes from --sql and --params (a query, unless --kind is statement, or transaction: with this one statement) or
completely from --file ("-" is standard input). With --output, its rows are written to a file, however many there are (see
docs/results.md). A job without an id gets one. The id is also its Nats-Msg-Id, so publishing again does no harm.

With --dry-run, the transaction in the file is executed, shown statement by statement, and rolled back; nothing is committed. It gets an
id of its own, whatever the file has, and "runner approve" commits it if its effect is still the same.

With --at or --in, the job becomes a one-time schedule, which a runner publishes at that time; the command does not wait for it.
It needs --id: submitting again with that id schedules nothing more. It is recorded in the audit stream first. The user needs
permission to write the key of the schedule ($KV.DBRUNNER_SCHEDULES.jobs.<database>.<kind>.*, with a queue
$KV.DBRUNNER_SCHEDULES.queues.<database>.<queue>.<kind>.*) and to read the bucket.

Exit codes: 0 succeeded; 1 the job could not be published or its result not read; 3 failed, rejected, cancelled or expired,
without effect (effects of a failed job of kind statement may remain); 4 unknown: it may have taken effect; 5 no result
within --timeout: the job continues, and its result will be stored; 78 the command line is wrong.
` + clientHelp

const submitExample = `  runner submit --database demo --sql 'SELECT id, owner FROM accounts WHERE id = :id' --params '{"id": 1}'
  runner submit --database demo --kind transaction --file transfer.json --id transfer-4711
  echo '{"sql": "SELECT 1 AS n"}' | runner submit --database demo --kind query --file - --json
  echo '{"params": {"id": 7}}' | runner submit --database shop --kind call.balance --file -
  runner submit --database shop --kind statement --sql 'VACUUM orders' --job-timeout 10m --timeout 11m
  runner submit --database shop --queue bulk --kind transaction --file night.json --no-wait
  runner submit --database shop --sql 'SELECT * FROM orders' --output orders.csv.zst
  runner submit --database demo --sql 'SELECT 1' --no-wait
  runner submit --database demo --dry-run transfer.json
  runner submit --database shop --kind transaction --file closing.json --id closing-2030-01 --at 2030-01-31T23:30:00+01:00`

type submitFlags struct {
	clientFlags
	outputFlags
	auditFlags // with --at or --in
	database   string
	kind       string
	queue      string
	id         string
	sql        string
	params     string
	file       string
	dryRun     string
	labels     map[string]string
	jobTimeout time.Duration
	timeout    time.Duration
	noWait     bool
	json       bool
	at         string
	in         time.Duration
}

func newSubmit() *cobra.Command {
	f := &submitFlags{}
	cmd := &cobra.Command{
		Use:     "submit --database NAME (--sql TEXT | --file NAME)",
		Short:   "Publish a job and wait for its result",
		Long:    submitHelp,
		Example: submitExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			job, err := f.job(cmd.InOrStdin())
			if err != nil {
				return usage(err)
			}
			return f.run(cmd, job)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.database, "database", "d", "", "database that the job is for")
	flags.StringVarP(&f.kind, "kind", "k", "query", "kind of the job; of a call, with its name: call.pay")
	flags.StringVar(&f.queue, "queue", "", "queue of the database that the job waits in (default: none)")
	flags.StringVar(&f.sql, "sql", "", "the job's statement")
	flags.StringVar(&f.params, "params", "", "parameters of --sql: a JSON object for :name, a JSON list for positional ones")
	flags.StringVarP(&f.file, "file", "f", "", `file with the job's body, "-" for standard input`)
	flags.StringVar(&f.dryRun, "dry-run", "", `file with the body of a transaction (or a call, with --kind call.pay) to execute, show and roll back`)
	flags.StringVar(&f.at, "at", "", "publish the job later, at this time, such as 2030-01-31T02:00:00Z; needs --id")
	flags.DurationVar(&f.in, "in", 0, "publish the job later, after this time, such as 90m; needs --id")
	f.addAudit(cmd, byUsage, reasonFlag)
	f.add(cmd)
	return cmd
}

// add adds the flags of every command that publishes a job.
func (f *submitFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "id of the job (default: generated)")
	flags.StringToStringVar(&f.labels, "label", nil, "labels that the result echoes, name=value")
	flags.DurationVar(&f.jobTimeout, "job-timeout", 0, "the job's own time limit (default: the database's)")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait for the result")
	flags.BoolVar(&f.noWait, "no-wait", false, "return once the job is stored")
	flags.BoolVar(&f.json, "json", false, "print the result's own JSON")
	f.clientFlags.add(cmd)
	f.outputFlags.add(cmd)
}

// submission is a job ready to be published.
type submission struct {
	id    string
	fresh bool // the id was made for this job: nothing else has it
	body  []byte
	hash  []byte // of the request; nil if it is not understood here
}

// run publishes a job and waits for its result.
func (f *submitFlags) run(cmd *cobra.Command, job *submission) error {
	if f.later() {
		return f.schedule(cmd, job)
	}
	if f.by != "" || f.why != "" || f.none {
		return usage(errors.New("--by, --reason and --no-audit are for --at and --in: jobs that are published now have no audit entry"))
	}
	out, err := f.create() // before the job runs: a folder that is missing must not cost its rows
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
	existing := false
	if !job.fresh { // whether the database is known is left to the publish
		if r, err := s.Result(ctx, f.database, job.id); err == nil {
			existing = true
			if err := job.answeredBy(r, false, 0); err != nil {
				return err
			}
		}
	}
	kind, name, _ := strings.Cut(f.kind, ".")
	receipt, err := s.Submit(ctx, &client.Job{Database: f.database, Queue: f.queue, Kind: kind, Name: name, ID: job.id, Body: job.body})
	if err != nil {
		return err
	}
	if receipt.Duplicate {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "runner: the id %s was used before; nothing new was published\n", job.id)
	}
	if f.noWait && f.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"job_id": job.id, "sequence": receipt.Sequence, "duplicate": receipt.Duplicate})
	}
	if f.noWait {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  sequence %d\n", job.id, receipt.Sequence)
		return err
	}
	r, err := s.Await(ctx, f.database, job.id)
	if errors.Is(err, context.DeadlineExceeded) {
		return &exitError{exitTimeout, fmt.Errorf("no result of job %s within %s; the job continues%s", job.id, f.timeout, deniedText(err, s.conn.Subjects().ResultsStream(f.database)))}
	}
	if err != nil {
		return err
	}
	if err := job.answeredBy(r, !existing && !receipt.Duplicate, receipt.Sequence); err != nil {
		return err
	}
	if f.outputFlags.file != "" && r.Status == contract.Succeeded {
		if err := f.save(cmd.Context(), cmd, s, r, out); err != nil { // which may take longer than the job
			return fmt.Errorf("job %s succeeded, its rows were not written: %w; try again with: runner result get %s %s --output FILE", job.id, err, f.database, job.id)
		}
		return nil
	}
	if err := printAnswer(cmd.OutOrStdout(), r, f.json); err != nil {
		return err
	}
	switch r.Status { // the result was printed
	case contract.Succeeded:
		return nil
	case contract.Rejected:
		return &exitError{exitJob, errors.New("nothing ran; publish the corrected job under a new id")}
	case contract.Unknown:
		return &exitError{code: exitUnknown}
	default:
		return &exitError{code: exitJob}
	}
}

// deniedText names what a user who may not read the results of a stream lacks; empty: an error is no such one.
func deniedText(err error, stream string) string {
	if !errors.Is(err, client.ErrDenied) {
		return ""
	}
	return ", but this user may not read its result: allow $JS.API.DIRECT.GET." + stream + ".> (docs/security.md), or use --no-wait"
}

// answeredBy returns nil if a stored result is the job's: that of the message which was stored under the sequence, if it
// was stored, or of another one that asked for the same.
func (j *submission) answeredBy(r *client.Result, stored bool, sequence uint64) error {
	if bytes.Equal(j.hash, r.Hash) || stored && r.Sequence == sequence && (j.hash == nil || r.Hash == nil) {
		return nil
	}
	return &exitError{exitJob, fmt.Errorf("the id %s belongs to a different request, whose result stays; use a new id", j.id)}
}

// job makes the job of the flags. Only what this command needs is checked here: the rest is for the runners to say.
func (f *submitFlags) job(in io.Reader) (*submission, error) {
	if f.dryRun != "" {
		if err := f.takeDryRun(); err != nil {
			return nil, err
		}
	}
	switch {
	case !contract.ValidName(f.database):
		return nil, errors.New("--database must name a database")
	case !contract.ValidName(strings.Replace(f.kind, ".", "_", 1)):
		return nil, errors.New("--kind must name a kind of jobs; of a call, with its name: call.pay")
	case f.queue != "" && !contract.ValidQueue(f.queue):
		return nil, errors.New("--queue must name a queue: 1 to 64 of a-z 0-9 _")
	case f.sql != "" && f.file != "", f.sql == "" && f.file == "" && f.kind != "health":
		return nil, errors.New("give either --sql or --file")
	case f.sql != "" && f.kind != "query" && f.kind != "statement" && f.kind != "transaction":
		return nil, fmt.Errorf("--sql is for the kinds query, statement and transaction; write the body of a job of kind %s in a file", f.kind)
	case f.params != "" && f.sql == "":
		return nil, errors.New("--params needs --sql")
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	b, err := f.body(in)
	if err != nil {
		return nil, err
	}
	return f.submission(b)
}

// check checks the flags of every command that publishes a job.
func (f *submitFlags) check() error {
	switch {
	case f.timeout <= 0:
		return errors.New("--timeout must be above zero")
	case f.jobTimeout < 0:
		return errors.New("--job-timeout must not be negative")
	case f.outputFlags.file != "" && f.noWait:
		return errors.New("--output waits for the result: leave --no-wait out")
	}
	return f.complete()
}

// submission gives a body its id.
func (f *submitFlags) submission(b contract.Body) (*submission, error) {
	id := f.id
	switch inBody := b.Text("id"); {
	case id != "" && inBody != "" && id != inBody:
		return nil, errors.New("--id and the id in the body differ")
	case id == "" && inBody != "":
		id = inBody
	case id == "" && b.Has("id"):
		return nil, errors.New("the id in the body is not a string")
	case id == "":
		id = "cli-" + strings.ToLower(rand.Text())
	}
	if !contract.ValidID(id) {
		return nil, errors.New("an id is 1 to 100 of A-Z a-z 0-9 _ -; s, digits, _ and letters is the form of jobs without an id: write another")
	}
	fresh := f.id == "" && !b.Has("id")
	raw := b.With("id", id).Bytes()
	return &submission{id: id, fresh: fresh, body: raw, hash: manager.RequestHash(f.database, f.kind, raw)}, nil
}

// body is that of --sql or --file, with what other flags add.
func (f *submitFlags) body(in io.Reader) (contract.Body, error) {
	var b contract.Body
	switch {
	case f.sql == "" && f.file == "": // a health job needs nothing in its body
	case f.sql == "":
		if f.file != "-" {
			file, err := os.Open(f.file)
			if err != nil {
				return nil, err
			}
			defer func() { _ = file.Close() }()
			in = file
		}
		raw, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("read the job: %w", err)
		}
		if b, err = contract.ParseBody(raw); err != nil {
			return nil, err
		}
	default:
		if f.params != "" {
			var params json.RawMessage
			if err := json.Unmarshal([]byte(f.params), &params); err != nil {
				return nil, fmt.Errorf("--params is not JSON: %w; write '{\"id\": 1}' for :id, or '[1]'", err)
			}
			b = b.With("params", params)
		}
		b = b.With("sql", f.sql)
		if f.kind == "transaction" {
			b = contract.Body{}.With("statements", []json.RawMessage{b.Bytes()})
		}
	}
	if f.dryRun != "" { // the id in the file is the transaction's own
		b = b.Without("id", "effect")
	}
	return f.withOptions(b), nil
}

// withOptions returns the body with what flags add.
func (f *submitFlags) withOptions(b contract.Body) contract.Body {
	if len(f.labels) > 0 {
		b = b.With("labels", f.labels)
	}
	if f.jobTimeout > 0 {
		b = b.With("timeout", f.jobTimeout.String())
	}
	if f.outputFlags.file != "" { // rows in the form of the file
		b = b.With("format", f.format).With("compression", f.compression)
	}
	return b
}

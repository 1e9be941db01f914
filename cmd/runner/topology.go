package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

const topologyHelp = `Manage the streams and consumers of a namespace. No other command changes or removes them: "serve" creates what is missing
(topology.mode: manage) and refuses to start if something differs.
` + clientHelp

func newTopology() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Manage streams and consumers: show, apply, prune",
		Long:  topologyHelp,
	}
	cmd.AddCommand(newTopologyShow(), newTopologyApply(), newTopologyPrune())
	return cmd
}

type topologyFlags struct {
	clientFlags
	auditFlags
	json, force, dryRun, remove bool
}

// topologyView is what show prints.
type topologyView struct {
	Streams     []streamView `json:"streams"`
	Differences []string     `json:"differences,omitempty"` // only with a configuration that has databases
	Notes       []string     `json:"notes,omitempty"`       // differences that runners work with
}

type streamView struct {
	Name       string         `json:"name"`
	Subjects   []string       `json:"subjects"`
	Configured bool           `json:"configured"` // the configuration names it
	Messages   uint64         `json:"messages"`
	Bytes      uint64         `json:"bytes"`
	Replicas   int            `json:"replicas"`
	Leader     string         `json:"leader,omitempty"`
	Consumers  []consumerView `json:"consumers,omitempty"`
}

type consumerView struct {
	Name         string   `json:"name"`
	Filters      []string `json:"filters"`
	Configured   bool     `json:"configured"`
	Waiting      uint64   `json:"waiting"`
	Held         int      `json:"held"`
	Redelivered  int      `json:"redelivered"`
	PullRequests int      `json:"pull_requests"`
}

func newTopologyShow() *cobra.Command {
	f := &topologyFlags{}
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show streams, consumers and their differences from the configuration",
		Long: "Show lists the streams and consumers of the namespace with their contents and, given a configuration with\n" +
			"databases, differences from it. Exit code 1 if anything differs.\n" + clientHelp,
		Example: "  runner topology show --config runner.yaml\n  runner topology show --server nats://127.0.0.1:4222 --json",
		Args:    arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.show(cmd) },
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *topologyFlags) show(cmd *cobra.Command) error {
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		view, err := viewTopology(ctx, s.conn, s.cfg)
		if err != nil {
			return err
		}
		if err := view.print(cmd.OutOrStdout(), f.json); err != nil {
			return err
		}
		if len(view.Differences) > 0 {
			return errors.New("streams and consumers differ from the configuration")
		}
		return nil
	})
}

func viewTopology(ctx context.Context, conn *bus.Conn, cfg *config.Config) (*topologyView, error) {
	wanted := manager.Topology(cfg)
	streams, err := topology.Show(ctx, conn, wanted)
	if err != nil {
		return nil, err
	}
	view := &topologyView{}
	for i := range streams {
		s := &streams[i]
		stream := streamView{
			Name: s.Name, Subjects: s.Subjects, Configured: s.Configured, Messages: s.Messages, Bytes: s.Bytes,
			Replicas: s.Replicas, Leader: s.Leader,
		}
		for _, c := range s.Consumers {
			stream.Consumers = append(stream.Consumers, consumerView(c))
		}
		view.Streams = append(view.Streams, stream)
	}
	if len(cfg.Databases) == 0 {
		return view, nil
	}
	differences, err := topology.Diff(ctx, conn, wanted)
	for i := range differences {
		text := differences[i].String() + "; " + differences[i].Remedy()
		if differences[i].Note {
			view.Notes = append(view.Notes, text)
			continue
		}
		view.Differences = append(view.Differences, text)
	}
	return view, err
}

func (v *topologyView) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, v)
	}
	rows := [][]string{{"STREAM / CONSUMER", "SUBJECTS", "MESSAGES", "BYTES", "WAITING", "HELD", "REDELIVERED"}}
	for i := range v.Streams {
		s := &v.Streams[i]
		rows = append(rows, []string{s.Name, few(s.Subjects), number(s.Messages), number(s.Bytes), "", "", ""})
		for j := range s.Consumers {
			c := &s.Consumers[j]
			rows = append(rows, []string{"  " + c.Name, few(c.Filters), "", "", number(c.Waiting), strconv.Itoa(c.Held), strconv.Itoa(c.Redelivered)})
		}
	}
	if err := table(w, "", rows); err != nil {
		return err
	}
	for _, d := range v.Differences {
		_, _ = fmt.Fprintln(w, "differs:", d)
	}
	for _, d := range v.Notes {
		_, _ = fmt.Fprintln(w, "note:", d)
	}
	return nil
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// few shows the first subject of a list and how many more there are.
func few(subjects []string) string {
	if len(subjects) < 2 {
		return strings.Join(subjects, "")
	}
	return subjects[0] + " +" + strconv.Itoa(len(subjects)-1)
}

func newTopologyApply() *cobra.Command {
	f := &topologyFlags{}
	cmd := &cobra.Command{
		Use:   "apply --config FILE",
		Short: "Create and update streams and consumers as configured",
		Long: "Apply creates what is missing and changes what differs, as far as the server can. What it cannot change is reported\n" +
			"with how to go on; then the exit code is 1. Subjects of optional kinds that the configuration does not name stay in their\n" +
			"stream, unless --remove is given: then publishing there is refused, while runners finish the jobs that wait.\n" + clientHelp,
		Example: "  runner topology apply --config runner.yaml --dry-run\n  runner topology apply --config runner.yaml",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.change(cmd, func(ctx context.Context, s *session, t topology.Topology) ([]topology.Change, error) {
				return f.apply(ctx, cmd, s, t)
			})
		},
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&f.remove, "remove", false, "take out the subjects of optional kinds that the configuration does not name")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "change nothing, and print what would change")
	f.addAudit(cmd, byUsage, reasonFlag)
	f.add(cmd)
	return cmd
}

// apply creates the audit stream first, so that the rest can be recorded there.
func (f *topologyFlags) apply(ctx context.Context, cmd *cobra.Command, s *session, t topology.Topology) ([]topology.Change, error) {
	if f.dryRun {
		return topology.Apply(ctx, s.conn, t, topology.ApplyOptions{Plan: true, Remove: f.remove})
	}
	first, err := topology.ApplyAudit(ctx, s.conn, t)
	if err != nil {
		return first, err
	}
	plan, err := topology.Apply(ctx, s.conn, t, topology.ApplyOptions{Plan: true, Remove: f.remove})
	if err != nil {
		return first, err
	}
	if err := f.recordPlan(ctx, cmd, s, plan); err != nil {
		return first, err
	}
	changes, err := topology.Apply(ctx, s.conn, t, topology.ApplyOptions{Remove: f.remove})
	return append(first, changes...), err
}

// recordPlan writes the audit entry about what apply or prune is about to do.
func (f *topologyFlags) recordPlan(ctx context.Context, cmd *cobra.Command, s *session, plan []topology.Change) error {
	entry := &contract.AuditEntry{Action: contract.AuditTopology, After: map[string]string{"command": cmd.Name()}}
	if f.force {
		entry.After["force"] = "true"
	}
	if f.remove {
		entry.After["remove"] = "true"
	}
	for _, c := range plan {
		entry.Targets = append(entry.Targets, c.Resource+": "+c.What)
	}
	return f.record(ctx, cmd, s, entry)
}

func newTopologyPrune() *cobra.Command {
	f := &topologyFlags{}
	cmd := &cobra.Command{
		Use:   "prune --config FILE",
		Short: "Remove streams and consumers that the configuration does not name",
		Long: "Prune removes the streams and consumers of the namespace that the configuration does not name, for instance of a\n" +
			"database that is gone. First it prints what each of them holds: messages, requests that wait for messages, and runners\n" +
			"whose heartbeats name the database. What is in use is kept, unless --force is given; a consumer whose jobs wait is\n" +
			"kept even then. Prune with the configuration that names all databases of the namespace.\n" + clientHelp,
		Example: "  runner topology prune --config runner.yaml --dry-run\n  runner topology prune --config runner.yaml",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.change(cmd, func(ctx context.Context, s *session, t topology.Topology) ([]topology.Change, error) {
				return f.prune(ctx, cmd, s, t)
			})
		},
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&f.force, "force", false, "remove what is in use, too, with its messages")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "remove nothing, and print what would be removed")
	f.addAudit(cmd, byUsage, reasonFlag)
	f.add(cmd)
	return cmd
}

func (f *topologyFlags) prune(ctx context.Context, cmd *cobra.Command, s *session, t topology.Topology) ([]topology.Change, error) {
	found, err := topology.PlanPrune(ctx, s.conn, t, f.force)
	if err != nil || f.dryRun {
		return found, err
	}
	if !f.json { // what each stream and consumer holds, before any is removed
		for _, c := range found {
			if c.Done {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", c.Resource, c.What)
			}
		}
	}
	if err := f.recordPlan(ctx, cmd, s, found); err != nil {
		return nil, err
	}
	return topology.Prune(ctx, s.conn, t, f.force)
}

// change does apply or prune. Without a database in the configuration neither would mean what its caller thinks.
func (f *topologyFlags) change(cmd *cobra.Command, do func(context.Context, *session, topology.Topology) ([]topology.Change, error)) error {
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		if err := wantDatabases(s.cfg); err != nil {
			return err
		}
		changes, err := do(ctx, s, manager.Topology(s.cfg))
		out, views := cmd.OutOrStdout(), make([]changeView, 0, len(changes))
		for _, c := range changes {
			views = append(views, changeView(c))
			if !f.json {
				_, _ = fmt.Fprintf(out, "%s: %s\n", c.Resource, c.What)
			}
		}
		if f.json {
			err = errors.Join(err, printJSON(out, views))
		} else if len(views) == 0 {
			_, _ = fmt.Fprintln(out, "nothing to do")
		}
		if err == nil && !f.dryRun && slices.ContainsFunc(changes, func(c topology.Change) bool { return !c.Done }) {
			return errors.New("not everything was done")
		}
		return err
	})
}

func wantDatabases(cfg *config.Config) error {
	if len(cfg.Databases) == 0 {
		return usage(errors.New("the configuration names no database: give --config, or RUNNER_DATABASES in the environment"))
	}
	return nil
}

type changeView struct {
	Resource string `json:"resource"`
	What     string `json:"what"`
	Done     bool   `json:"done"`
}

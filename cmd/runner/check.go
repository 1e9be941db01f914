package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/internal/inspect"
)

const checkHelp = `Check the configuration and show what would run and what could be safer. With --connect, also connect to NATS and to every
database with the runner's own credentials and check what "serve" needs: each NATS permission, JetStream, streams and
consumers, logins, the ledger and its privileges, migration folders and schema versions. The command creates and changes
nothing; it reports what "serve" would create. Each error names its remedy.

Exit codes: 0 no errors (with --strict: no warnings either); 1 something is missing or refused; 78 the configuration or the
command line is wrong.`

type checkFlags struct {
	config                string
	connect, strict, json bool
}

func newCheck() *cobra.Command {
	f := &checkFlags{}
	cmd := &cobra.Command{
		Use:     "check [--config FILE]",
		Short:   "Check the configuration and, with --connect, NATS and databases",
		Long:    checkHelp,
		Example: "  runner check --config runner.yaml\n  runner check --config runner.yaml --connect --strict\n  runner check --connect --json",
		Args:    arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file (default: environment variables only)")
	flags.BoolVar(&f.connect, "connect", false, "also connect to NATS and every database")
	flags.BoolVar(&f.strict, "strict", false, "let warnings fail as well")
	flags.BoolVar(&f.json, "json", false, "print one JSON document")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) (err error) {
	cfg, err := loadConfig(f.config, false)
	if err != nil {
		return err
	}
	inspector, err := inspect.New(cfg)
	if err != nil {
		return configFault(err)
	}
	defer func() { err = errors.Join(err, inspector.Close()) }()
	found := inspector.Inspect(cfg)
	if f.connect { // in an order of its own: NATS first, then the databases
		reached, _ := collect(cmd.ErrOrStderr(), func(note func(inspect.Finding)) error {
			inspector.Connect(cmd.Context(), note)
			return nil
		})
		first := map[string]string{"nats": "0", "topology": "1"}
		order := func(f inspect.Finding) string { return cmp.Or(first[f.About], "2"+f.About) }
		slices.SortStableFunc(reached, func(a, b inspect.Finding) int { return strings.Compare(order(a), order(b)) })
		found.Findings = append(found.Findings, reached...)
	}
	if err := f.print(cmd.OutOrStdout(), found); err != nil {
		return err
	}
	return verdictError(found.Findings, f.strict)
}

func (f *checkFlags) print(w io.Writer, found *inspect.Inspection) error {
	if f.json {
		return printJSON(w, found)
	}
	_, _ = fmt.Fprintf(w, "instance %s, namespace %s, topology %s\n", found.Instance, found.Namespace, found.Topology)
	_, _ = fmt.Fprintf(w, "each database can sustain %.0f results per second (topology.results: max_count within min_age)\n\n", found.SustainedRate)
	rows := [][]string{{"DATABASE", "ENGINE", "KINDS", "EFFECTS", "SLOTS", "POOL", "LEDGER", "TIMEOUT", "MIGRATIONS"}}
	for i := range found.Databases {
		d := &found.Databases[i]
		effects := make([]string, 0, len(d.Effects))
		for _, e := range d.Effects {
			effects = append(effects, string(e))
		}
		files := strconv.Itoa(d.Files) + " in " + d.Folder
		if d.FileFaults > 0 {
			files = strconv.Itoa(d.FileFaults) + " faults in " + d.Folder
		}
		if d.OnStart {
			files += ", applied at the start"
		}
		rows = append(rows, []string{
			d.Name, d.Engine, strings.Join(d.Kinds, ","), strings.Join(effects, ","), strconv.Itoa(d.Slots),
			fmt.Sprintf("%d-%d", d.PoolMin, d.PoolMax), d.Ledger, d.Timeout + " to " + d.MaxTimeout, files,
		})
	}
	if err := table(w, "", rows, styleFor(w).bold); err != nil {
		return err
	}
	for i := range found.Databases {
		for _, q := range found.Databases[i].Queues {
			if q.Ordered {
				_, _ = fmt.Fprintf(w, "%s: queue %s, ordered: one job at a time in the fleet\n", found.Databases[i].Name, q.Name)
				continue
			}
			_, _ = fmt.Fprintf(w, "%s: queue %s, %d slots in this runner, %d in the fleet\n", found.Databases[i].Name, q.Name, q.Slots, q.FleetSlots)
		}
	}
	_, _ = fmt.Fprintln(w)
	if len(found.Findings) == 0 {
		_, err := fmt.Fprintln(w, "in order")
		return err
	}
	return printFindings(w, found.Findings)
}

const diagnoseHelp = `Diagnose the connection to one configured database stage by stage (name resolution, network, TLS, login, query), test its
pool with trivial reads for two seconds, and inspect the server: version, important settings, lock waits, long-running
statements, the size of the ledger, and the schema version. The command connects directly with the runner's own login and
changes nothing. It shows only the first word of other sessions' statements.

Exit codes: 0 no errors; 1 a stage failed, or there is another error; 78 the command line or the configuration is wrong.`

type diagnoseFlags struct {
	config          string
	load            time.Duration
	integrity, json bool
}

func newDiagnose() *cobra.Command {
	f := &diagnoseFlags{}
	cmd := &cobra.Command{
		Use:     "diagnose DATABASE [--config FILE]",
		Short:   "Diagnose one database",
		Long:    diagnoseHelp,
		Example: "  runner diagnose shop --config runner.yaml\n  runner diagnose shop --load 0s --json\n  runner diagnose shop --integrity",
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "configuration file (default: environment variables only)")
	flags.DurationVar(&f.load, "load", 2*time.Second, "how long to load the pool; 0s: not at all")
	flags.BoolVar(&f.integrity, "integrity", false, "also check the stored data (SQLite); may take long")
	flags.BoolVar(&f.json, "json", false, "print one JSON document")
	return cmd
}

func (f *diagnoseFlags) run(cmd *cobra.Command, database string) error {
	if f.load < 0 || f.load > time.Minute {
		return usage(errors.New("--load must be from 0s to 1m"))
	}
	cfg, err := loadConfig(f.config, false)
	if err != nil {
		return err
	}
	found, err := collect(cmd.ErrOrStderr(), func(note func(inspect.Finding)) error {
		return inspect.Diagnose(cmd.Context(), cfg, database, inspect.DiagnoseOptions{Load: f.load, Integrity: f.integrity}, note)
	})
	if err != nil {
		return configFault(err)
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), map[string]any{"database": database, "findings": found})
	} else {
		err = printFindings(cmd.OutOrStdout(), found)
	}
	return errors.Join(err, verdictError(found, false))
}

// collect returns what an inspection finds; on a terminal it shows meanwhile that something goes on.
func collect(w io.Writer, inspection func(note func(inspect.Finding)) error) ([]inspect.Finding, error) {
	line := &statusLine{out: w, on: styleFor(w).on}
	defer line.clear()
	var found []inspect.Finding
	err := inspection(func(f inspect.Finding) {
		found = append(found, f)
		line.draw(fmt.Sprintf("%d checked, last %s %s", len(found), f.About, f.Part))
	})
	return found, err
}

// printFindings shows findings as a table, a remedy below what it is for.
func printFindings(w io.Writer, findings []inspect.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	rows := [][]string{{"VERDICT", "ABOUT", "PART", "LATENCY", "WHAT"}}
	for i := range findings {
		f := &findings[i]
		latency := ""
		switch {
		case f.Latency <= 0:
		case f.Latency < time.Millisecond:
			latency = f.Latency.Round(time.Microsecond).String()
		default:
			latency = f.Latency.Round(100 * time.Microsecond).String()
		}
		rows = append(rows, []string{string(f.Grade), f.About, f.Part, latency, f.Text})
		if f.Remedy != "" && f.Grade != inspect.GradeOK {
			rows = append(rows, []string{"", "", "", "", "→ " + f.Remedy})
		}
	}
	return table(w, "", rows, styleFor(w).bold)
}

// verdictError gives a look its exit code. What was found was printed: there is nothing more to say.
func verdictError(findings []inspect.Finding, strict bool) error {
	worst := inspect.Worst(findings)
	if worst == inspect.GradeFault || strict && worst == inspect.GradeWarning {
		return &exitError{code: exitFailure}
	}
	return nil
}

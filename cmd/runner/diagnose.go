package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/internal/inspect"
)

const diagnoseHelp = `Diagnose the connection to one configured database stage by stage (name resolution, network, TLS, login, query), test its
pool with trivial reads for two seconds, and inspect the server: version, important settings, lock waits, long-running
statements, the size of the ledger, and the schema version. The command connects directly with the runner's own login and
changes nothing. It shows only the first word of other sessions' statements.

Exit codes: 0 no errors; 1 a stage failed, or there is another error; 78 the command line or the configuration is wrong.`

type diagnoseFlags struct {
	config    string
	load      time.Duration
	integrity bool
	json      bool
}

func newDiagnose() *cobra.Command {
	f := &diagnoseFlags{}
	cmd := &cobra.Command{
		Use:     "diagnose DATABASE [--config FILE]",
		Short:   "Diagnose one database",
		Long:    diagnoseHelp,
		Example: "  runner diagnose shop --config runner.yaml\n  runner diagnose shop --load 0s --json\n  runner diagnose shop --integrity",
		Args:    cobra.ExactArgs(1),
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

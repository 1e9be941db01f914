package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dbrunner/internal/manager"
)

func newLedger() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Print the ledger table's DDL: ddl",
		Long: "The ledger is a table in each target database: the row of a job, with its answer, is committed together with the\n" +
			"job's effect. With ledger.mode: verify a runner does not create it, a DBA does.",
	}
	cmd.AddCommand(newDDL("ledger", manager.LedgerDDL))
	return cmd
}

// newDDL returns the command that prints the DDL of a table of ours.
func newDDL(what string, of func(engine string) (string, error)) *cobra.Command {
	var engine, database, file string
	ddl := &cobra.Command{
		Use:   "ddl (--engine NAME | --config FILE --database NAME)",
		Short: "Print the DDL of the " + what + " table",
		Example: "  runner " + what + " ddl --engine postgres | psql shop\n" +
			"  runner " + what + " ddl --config runner.yaml --database shop",
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printDDL(cmd.OutOrStdout(), of, engine, database, file)
		},
	}
	ddl.Flags().StringVar(&engine, "engine", "", "engine: "+strings.Join(manager.Engines(), ", "))
	ddl.Flags().StringVar(&database, "database", "", "configured database")
	ddl.Flags().StringVar(&file, "config", "", "configuration file of the runner")
	return ddl
}

// printDDL prints the DDL of an engine or, without one, of that of a configured database.
func printDDL(w io.Writer, of func(string) (string, error), engine, database, file string) error {
	if (engine == "") == (database == "") {
		return usage(errors.New("give either --engine or --database"))
	}
	if engine == "" {
		cfg, err := loadConfig(file, true)
		if err != nil {
			return err
		}
		d, ok := cfg.Databases[database]
		if !ok {
			return usage(fmt.Errorf("the configuration has no database %q", database))
		}
		engine = d.Type
	}
	ddl, err := of(engine)
	if err != nil {
		return usage(err)
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(ddl, "\n"))
	return err
}

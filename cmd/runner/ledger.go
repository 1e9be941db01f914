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
	var engine, database, file string
	ddl := &cobra.Command{
		Use:   "ddl (--engine NAME | --config FILE --database NAME)",
		Short: "Print the DDL of the ledger table",
		Example: "  runner ledger ddl --engine postgres | psql shop\n" +
			"  runner ledger ddl --config runner.yaml --database shop",
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printLedgerDDL(cmd.OutOrStdout(), engine, database, file)
		},
	}
	ddl.Flags().StringVar(&engine, "engine", "", "engine: "+strings.Join(manager.Engines(), ", "))
	ddl.Flags().StringVar(&database, "database", "", "configured database")
	ddl.Flags().StringVar(&file, "config", "", "configuration file of the runner")
	cmd.AddCommand(ddl)
	return cmd
}

// printLedgerDDL prints the DDL of an engine or, without one, of that of a configured database.
func printLedgerDDL(w io.Writer, engine, database, file string) error {
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
	ddl, err := manager.LedgerDDL(engine)
	if err != nil {
		return usage(err)
	}
	_, err = fmt.Fprintln(w, strings.TrimRight(ddl, "\n"))
	return err
}

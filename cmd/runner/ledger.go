package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

func newLedger() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Print the ledger table's DDL: ddl",
		Long: "The ledger is a table in each target database: the row of a job, with its answer, is committed together with the\n" +
			"job's effect. With ledger.mode: verify a runner does not create it, a DBA does.",
	}
	cmd.AddCommand(newLedgerDDL())
	return cmd
}

func newLedgerDDL() *cobra.Command {
	var engine, database, file string
	cmd := &cobra.Command{
		Use:   "ddl (--engine NAME | --config FILE --database NAME)",
		Short: "Print the DDL of the ledger table",
		Example: "  runner ledger ddl --engine postgres | psql shop\n" +
			"  runner ledger ddl --config runner.yaml --database shop",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name, err := engineOf(engine, database, file)
			if err != nil {
				return usage(err)
			}
			ddl, err := manager.LedgerDDL(name)
			if err != nil {
				return usage(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(ddl, "\n"))
			return err
		},
	}
	cmd.Flags().StringVar(&engine, "engine", "", "engine: "+strings.Join(manager.Engines(), ", "))
	cmd.Flags().StringVar(&database, "database", "", "configured database")
	cmd.Flags().StringVar(&file, "config", "", "configuration file of the runner")
	return cmd
}

func engineOf(engine, database, file string) (string, error) {
	if (engine == "") == (database == "") {
		return "", errors.New("give either --engine or --database")
	}
	if engine != "" {
		return engine, nil
	}
	cfg, err := config.Load(config.Options{File: file, Environ: os.Environ(), Words: manager.Words(), Client: true})
	if err != nil {
		return "", err
	}
	d, ok := cfg.Databases[database]
	if !ok {
		return "", fmt.Errorf("the configuration has no database %q", database)
	}
	return d.Type, nil
}

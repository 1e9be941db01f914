package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/internal/db/migration"
)

const migrateNewHelp = `Create the next file in the database's folder, empty and named in the style of the files there:
V{version}__{description}.sql, or {version}_{title}.up.sql as golang-migrate has it. If there is none yet, create the folder and
start with V1. With --down, also create the file that reverts it. The command does not connect to the database. Every other
command refuses the empty file until you write statements into it.`

func newMigrateNew() *cobra.Command {
	f := &migrateFlags{}
	var down bool
	cmd := &cobra.Command{
		Use:     "new DATABASE DESCRIPTION",
		Short:   "Create the next migration file",
		Long:    migrateNewHelp,
		Example: "  runner migrate new rpa_db \"add priority to queue items\"\n  runner migrate new rpa_db add_queue_index --down",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New(`new needs a database and a description in quotes: runner migrate new rpa_db "add a queue"`)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.makeNext(cmd, args[0], args[1], down) },
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file of the runner (default: environment variables only)")
	cmd.Flags().BoolVar(&down, "down", false, "also create the file that reverts it")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the paths as JSON")
	return cmd
}

// makeNext makes the files and prints their paths.
func (f *migrateFlags) makeNext(cmd *cobra.Command, database, description string, down bool) error {
	cfg, err := f.load(database, true)
	if err != nil {
		return err
	}
	folder := cfg.Databases[database].Migrations.Folder
	names, err := migration.Next(os.DirFS(folder), description, down, time.Now())
	if _, ok := errors.AsType[*migration.FaultsError](err); ok {
		return fmt.Errorf("%s: %w", folder, err)
	}
	if err != nil {
		return usage(fmt.Errorf("%s: %w", folder, err))
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i, name := range names {
		names[i] = filepath.Join(folder, name)
		if err := makeFile(names[i]); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string][]string{"files": names})
	}
	for _, name := range names {
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), name)
	}
	return nil
}

// makeFile creates an empty file that does not exist yet. Loading refuses it until something is written into it, whereas a
// file of comments is applied and does nothing.
func makeFile(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dbrunner/contract/schema"
)

const contractHelp = `Print a part of the contract as a JSON Schema (draft 2020-12): the body of a job of each kind, results, heartbeats, the
headers of dead letters, records, and the answers of the service. Without a name, list the schemas.

A schema checks keys, types, words and bounds. What depends on a database's configuration (kinds, effects, limits), on the text
of statements, or on how JSON is written (a key that is there twice, 1.0 in place of 1) is checked by the runners only.`

func newContract() *cobra.Command {
	return &cobra.Command{
		Use:     "contract [SCHEMA]",
		Short:   "Print the contract as JSON Schemas",
		Long:    contractHelp,
		Example: "  runner contract\n  runner contract job-query > job-query.json",
		Args:    arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(schema.Names(), "\n"))
				return err
			}
			text, err := schema.Read(args[0])
			if err != nil {
				return usage(err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

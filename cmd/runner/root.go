package main

import "github.com/spf13/cobra"

const rootHelp = `Runner executes SQL jobs from NATS JetStream against databases and publishes each result exactly once.

Start with "runner demo": it needs nothing and explains itself. "runner serve" is the service.

Exit codes: 0 done; 1 it could not be done; 78 the command line or the configuration is wrong; "submit", "cancel" and
"job" have more, see there; 130 a second signal ended the process; 141 nobody reads standard output any more. 2 is a
crash of the Go runtime (SIGQUIT: with a dump of all goroutines).`

// newRoot returns the whole tree of commands. A subcommand is one file and one line here.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "runner",
		Short:         "SQL jobs over NATS JetStream, exactly once",
		Long:          rootHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	root.AddCommand(
		newServe(),
		newDemo(),
		newSubmit(),
		newResult(),
		newCheck(),
		newDiagnose(),
		newWait(),
		newHealthcheck(),
		newCancel(),
		newJob(),
		newDead(),
		newTopology(),
		newLedger(),
		newMigrate(),
		newVersion(),
	)
	return root
}

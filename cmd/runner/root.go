package main

import "github.com/spf13/cobra"

const rootHelp = `Run SQL jobs from NATS JetStream on databases. Each job takes effect exactly once, and its result is published exactly once.

Start with "runner demo", which needs nothing else. "runner serve" is the service.

Exit codes: 0 done; 1 failed; 78 the command line or the configuration is wrong; 130 a second signal stopped the process; 141
standard output was closed. "submit", "cancel" and "job" have further codes. 2 is a crash of the Go runtime (SIGQUIT prints
all goroutines).`

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
		newContract(),
		newMigrate(),
		newVersion(),
	)
	return root
}

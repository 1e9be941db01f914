package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/mcp"
)

const mcpHelp = `Serve the named statements of a database's catalog to an AI agent: a Model Context Protocol server on standard input and output.
Agents start it themselves; give them this command line. Each statement is a tool with its description, the schema of its parameters and
hints; answers have at most 100 rows. There is no tool for SQL. The optional argument request_id makes repeating a call safe.

The server can do what its NATS user may do. Give agents a user of their own, with permission for the statements that they need
(docs/agents.md). The log goes to standard error.
` + clientHelp

const maxMCPWait = 10 * time.Minute

type mcpFlags struct {
	clientFlags
	timeout time.Duration
}

func newMCP() *cobra.Command {
	f := &mcpFlags{}
	cmd := &cobra.Command{
		Use:     "mcp DATABASE",
		Short:   "Serve the catalog to an AI agent",
		Long:    mcpHelp,
		Example: "  runner mcp shop --server nats://127.0.0.1:4222 --creds agent.creds",
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	cmd.Flags().DurationVar(&f.timeout, "timeout", 50*time.Second, "how long a call waits for its result; the job goes on after that")
	f.add(cmd)
	return cmd
}

func (f *mcpFlags) run(cmd *cobra.Command, database string) error {
	switch {
	case !contract.ValidName(database):
		return usage(errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -"))
	case f.timeout < time.Second || f.timeout > maxMCPWait:
		return usage(errors.New("--timeout must be 1s to 10m"))
	}
	ctx := cmd.Context()
	bounded, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	s, err := f.connect(bounded, true)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	log, _, flush, err := newLogger(&config.Log{Level: "info", Format: "console"}, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer flush()
	return mcp.Serve(ctx, mcp.Options{
		NATS: s.conn.NATS(), Namespace: s.cfg.Namespace, Domain: s.cfg.NATS.Domain, Database: database, Version: buildVersion().Version,
		Wait: f.timeout, Logger: log,
	}, io.NopCloser(cmd.InOrStdin()), outOnly{cmd.OutOrStdout()})
}

// outOnly is standard output, which stays open.
type outOnly struct{ io.Writer }

// Close does nothing.
func (outOnly) Close() error { return nil }

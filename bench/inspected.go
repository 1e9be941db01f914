package main

import (
	"context"
	"flag"
	"os"

	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// inspectedRunner is the runner inside this program, so that its allocations and its CPU profile can be had. It is
// configured by the environment, as the built one; rates are never taken from it.
func inspectedRunner(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("runner", flag.ContinueOnError)
	marks := marksFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg, err := config.Load(config.Options{Environ: os.Environ(), Words: manager.Words()})
	if err != nil {
		return err
	}
	runner, err := app.New(app.Options{Config: cfg, Logger: zap.NewNop(), Version: "bench"})
	if err != nil {
		return err
	}
	return marks.serve(ctx, runner.Run)
}

package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"dbrunner/internal/app"
	"dbrunner/internal/config"
)

const serveHelp = `Serve runs the jobs of the configured databases until SIGTERM or SIGINT. Then it takes no more, hands back at once
what was not begun, finishes what runs (at most worker.drain_timeout) and exits with 0. A second signal ends it at once.

The configuration comes from a YAML file and the environment, or from the environment alone: RUNNER_DATABASES=shop,
SHOP_TYPE=postgres, SHOP_CONNECTION_STRING=… (or SHOP_CONNECTION_STRING_FILE=…), RUNNER_NATS_URLS=…

Faults of the configuration, and streams that differ from it, end the start. A database that cannot be reached does
not: its jobs wait until it answers, and the other databases run. With --strict it ends the start as well.

Logs go to standard error. http.address (RUNNER_HTTP_ADDRESS) opens a port with /metrics, /healthz and /readyz; the
variables of OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT and others) have traces sent.`

func newServe() *cobra.Command {
	var file string
	var strict bool
	cmd := &cobra.Command{
		Use:   "serve [--config FILE]",
		Short: "Run jobs until told to stop",
		Long:  serveHelp,
		Example: "  runner serve --config runner.yaml\n" +
			"  RUNNER_DATABASES=shop SHOP_TYPE=sqlite SHOP_CONNECTION_STRING=shop.db runner serve",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(config.Options{File: file, Environ: os.Environ(), Words: app.Words()})
			if err != nil {
				return usage(err)
			}
			return serve(cmd.Context(), cfg, strict)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file; without it the environment alone")
	cmd.Flags().BoolVar(&strict, "strict", false, "do not start when a database cannot be reached")
	return cmd
}

func serve(ctx context.Context, cfg *config.Config, strict bool) error {
	log, level, err := newLogger(&cfg.Log)
	if err != nil {
		return usage(err)
	}
	defer func() { _ = log.Sync() }() // fails on a terminal, where nothing is buffered
	runner, err := app.New(app.Options{
		Config: cfg, Logger: log, Level: &level, Version: buildVersion().Version, Strict: strict,
	})
	if err != nil {
		return err
	}
	err = runner.Run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		log.Info("told to stop before it was running")
		return nil
	}
	return configFault(err)
}

// configFault gives faults of the configuration their exit code.
func configFault(err error) error {
	if _, ok := errors.AsType[*app.ConfigError](err); ok {
		return usage(err)
	}
	return err
}

package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"dbrunner/internal/app"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

const serveHelp = `Run the jobs of the configured databases until SIGTERM, SIGINT or SIGHUP. Then stop intake, requeue jobs that have not
started, finish running jobs (at most worker.drain_timeout) and exit with 0. A second SIGTERM or SIGINT exits immediately.
Under nohup, SIGHUP is ignored.

The configuration comes from a YAML file and the environment, or from the environment only: RUNNER_DATABASES=shop,
SHOP_TYPE=postgres, SHOP_CONNECTION_STRING=… (or SHOP_CONNECTION_STRING_FILE=…), RUNNER_NATS_URLS=…

Configuration errors and streams that differ from the configuration stop the startup. An unreachable database does not: its
jobs wait until it answers, and the other databases run. With --strict, it stops the startup as well.

Logs go to standard error. http.address (RUNNER_HTTP_ADDRESS) enables /metrics, /healthz and /readyz; the OpenTelemetry
variables (OTEL_EXPORTER_OTLP_ENDPOINT and others) enable traces.`

func newServe() *cobra.Command {
	var file string
	var strict bool
	cmd := &cobra.Command{
		Use:   "serve [--config FILE]",
		Short: "Run jobs until SIGTERM or SIGINT",
		Long:  serveHelp,
		Example: "  runner serve --config runner.yaml\n" +
			"  RUNNER_DATABASES=shop SHOP_TYPE=sqlite SHOP_CONNECTION_STRING=shop.db runner serve",
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file, false)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, strict)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (default: environment variables only)")
	cmd.Flags().BoolVar(&strict, "strict", false, "do not start if a database cannot be reached")
	return cmd
}

func serve(ctx context.Context, cfg *config.Config, strict bool) error {
	log, level, closeLog, err := newLogger(&cfg.Log, os.Stderr)
	if err != nil {
		return usage(err)
	}
	defer closeLog()
	defer context.AfterFunc(ctx, func() { log.Info("stopping", zap.NamedError("cause", context.Cause(ctx))) })()
	if os.Getenv("NATS_URL") != "" && slices.Equal(cfg.NATS.URLs, config.Default().NATS.URLs) { // as for client commands
		log.Warn("NATS_URL is set, but serve does not read it; set RUNNER_NATS_URLS or nats.urls",
			zap.Strings("nats_urls", cfg.NATS.URLs))
	}
	runner, err := app.New(app.Options{
		Config: cfg, Logger: log, Level: &level, Version: buildVersion().Version, Strict: strict,
	})
	if err != nil {
		return err
	}
	return configFault(runner.Run(ctx))
}

// configFault gives faults of the configuration their exit code.
func configFault(err error) error {
	if _, ok := errors.AsType[*manager.ConfigError](err); ok {
		return usage(err)
	}
	return err
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

const healthcheckHelp = `Query the HTTP endpoint of the runner on this host: /healthz, or /readyz with --ready. The command needs neither NATS nor a
database nor a secret. The image's HEALTHCHECK runs it.

The address is --address, else RUNNER_HTTP_ADDRESS, else http.address of --config. If the runner listens on all addresses
(:8080, 0.0.0.0:8080, [::]:8080), the command queries the loopback address.

Exit codes: 0 it answers (with --ready: jobs can run); 1 it does not; 78 the command line or the configuration is wrong,
or no address is configured.`

type healthcheckFlags struct {
	config  string
	address string
	ready   bool
	timeout time.Duration
}

func newHealthcheck() *cobra.Command {
	f := &healthcheckFlags{}
	cmd := &cobra.Command{
		Use:     "healthcheck",
		Short:   "Query the runner's own HTTP endpoint",
		Long:    healthcheckHelp,
		Example: "  runner healthcheck\n  runner healthcheck --ready\n  runner healthcheck --address 127.0.0.1:8080 --timeout 2s",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), os.Environ())
		},
	}
	cmd.Flags().StringVar(&f.config, "config", "", "configuration file of the runner")
	cmd.Flags().StringVar(&f.address, "address", "", "host and port (default: as the runner is configured)")
	cmd.Flags().BoolVar(&f.ready, "ready", false, "query /readyz: whether jobs can run")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 5*time.Second, "limit of the query")
	return cmd
}

func (f *healthcheckFlags) run(ctx context.Context, out io.Writer, environ []string) error {
	if f.timeout <= 0 {
		return usage(errors.New("--timeout must be above zero"))
	}
	targets, err := f.targets(environ)
	if err != nil {
		return usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	path := "/healthz"
	if f.ready {
		path = "/readyz"
	}
	var errs []error
	for _, target := range targets {
		answered, err := query(ctx, "http://"+target+path)
		if err == nil {
			_, err = fmt.Fprintln(out, "ok")
		}
		if answered {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// targets returns where to query the runner: where it listens or, if that is all addresses, the loopback ones.
func (f *healthcheckFlags) targets(environ []string) ([]string, error) {
	const variable = "RUNNER_HTTP_ADDRESS="
	address := f.address
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, variable); ok && address == "" {
			address = value
		}
	}
	if address == "" && f.config != "" {
		cfg, err := config.Load(config.Options{File: f.config, Environ: environ, Words: manager.Words(), Client: true})
		if err != nil {
			return nil, err
		}
		address = cfg.HTTP.Address
	}
	if address == "" {
		return nil, errors.New("no HTTP endpoint is configured: set RUNNER_HTTP_ADDRESS or http.address, such as :8080, or give --address")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return nil, errors.New("the address must be a host, or none for all, and a port, such as :8080 or 127.0.0.1:8080")
	}
	if port == "0" {
		return nil, errors.New("the runner listens on a free port of its choice (port 0): give --address, or configure a port")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	}
	return []string{net.JoinHostPort(host, port)}, nil
}

// query asks once, without a proxy and without redirects, and reports whether there was an answer. One other than 200 is an
// error.
func query(ctx context.Context, url string) (answered bool, err error) {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, usage(errors.New("not an HTTP address"))
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, fmt.Errorf("the runner's HTTP endpoint does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // was read as far as it is of use
	if resp.StatusCode == http.StatusOK {
		return true, nil
	}
	var body struct {
		State   string   `json:"state"`
		Reasons []string `json:"reasons"`
	}
	const most = 64 << 10
	_ = json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(&body) // the status says enough
	if body.State != "" {
		body.Reasons = append([]string{"the runner is " + body.State}, body.Reasons...)
	}
	text := url + " answers " + resp.Status
	if len(body.Reasons) > 0 {
		text += ": " + strings.Join(body.Reasons, "; ")
	}
	return true, errors.New(text)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"dbrunner/internal/ui"
)

const uiHelp = `Serve a page about the fleet: what needs attention, each database, jobs and dead letters. The page is a client of NATS with a user
of its own and can do nothing that this user may not do. It is read-only; with --write it also pauses and resumes databases, queues
and schedules, runs schedules now, cancels jobs and redrives dead letters, each after a confirmation and with an audit entry.

The page has no sign-in. By default it listens only on this machine. Before you let others reach it, put a proxy with a sign-in in front, name
the host that browsers use (--host) and the proxy's header with the user (--user-header). See docs/ui.md.
` + clientHelp

type uiFlags struct {
	clientFlags
	listen, environment, grafana string
	hosts                        []string
	by, userHeader               string
	write, rows, noAudit         bool
}

func newUI() *cobra.Command {
	f := &uiFlags{}
	cmd := &cobra.Command{
		Use:     "ui",
		Short:   "Serve a page about the fleet",
		Long:    uiHelp,
		Example: "  runner ui --server nats://127.0.0.1:4222\n  runner ui --config runner.yaml --write --environment production",
		Args:    arguments(0, 0),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8090", "address of the page")
	flags.BoolVar(&f.write, "write", false, "offer actions: pause, resume, run now, cancel, redrive")
	flags.BoolVar(&f.rows, "show-rows", false, "show the rows of results")
	flags.StringVar(&f.environment, "environment", "", "name on every screen and in every confirmation, such as production")
	flags.StringVar(&f.grafana, "grafana", "", "URL of a dashboard to link to")
	flags.StringSliceVar(&f.hosts, "host", nil, "name under which browsers reach the page, besides localhost and addresses")
	flags.StringVar(&f.by, "by", "", byUsage)
	flags.StringVar(&f.userHeader, "user-header", "", "header with which a proxy names who acts (default: none is trusted)")
	flags.BoolVar(&f.noAudit, "no-audit", false, "act without audit entries")
	f.add(cmd)
	return cmd
}

func (f *uiFlags) check() error {
	address, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return usage(fmt.Errorf("--listen %q is not an address with a port, such as 127.0.0.1:8090", f.listen))
	}
	ip, err := netip.ParseAddr(address)
	local := address == "localhost" || err == nil && ip.IsLoopback()
	if !local && f.write && f.userHeader == "" {
		return usage(errors.New("the page has no sign-in: with --write and an address that others reach, name the header in which a proxy passes the user (--user-header)"))
	}
	if f.grafana != "" {
		if u, err := url.Parse(f.grafana); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return usage(fmt.Errorf("--grafana %q is not a URL that starts with https:// or http://", f.grafana))
		}
	}
	return nil
}

func (f *uiFlags) run(cmd *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	ctx := cmd.Context()
	bounded, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	s, err := f.connect(bounded, true)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	page, err := ui.New(ui.Options{
		NATS: s.conn.NATS(), Namespace: s.cfg.Namespace, Domain: s.cfg.NATS.Domain, Write: f.write, ShowRows: f.rows, Environment: f.environment,
		Grafana: f.grafana, Hosts: f.hosts, By: cmp.Or(f.by, thisUser()), UserHeader: f.userHeader, NoAudit: f.noAudit,
	})
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("the page cannot listen: %w", err)
	}
	f.announce(cmd.OutOrStdout(), listener.Addr())
	return page.Serve(ctx, listener)
}

func (f *uiFlags) announce(w io.Writer, address net.Addr) {
	text := "read-only; --write offers actions"
	if f.write {
		text = "with actions"
	}
	_, _ = fmt.Fprintf(w, "the page is on http://%s (%s)\n", strings.Replace(address.String(), "[::]", "localhost", 1), text)
}

package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serveNATS is the role of one NATS server: JetStream on files with the server's own settings, sync interval included.
func serveNATS(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("nats", flag.ContinueOnError)
	o := &server.Options{
		Host: "127.0.0.1", HTTPHost: "127.0.0.1", JetStream: true, NoSigs: true, Username: natsUser, Password: natsPassword,
		JetStreamMaxStore: 1 << 50, JetStreamMaxMemory: 1 << 30, // streams reserve their limits; the disk is the bound
	}
	flags.StringVar(&o.ServerName, "name", "", "")
	flags.IntVar(&o.Port, "port", 0, "")
	flags.IntVar(&o.HTTPPort, "http", 0, "")
	flags.IntVar(&o.Cluster.Port, "cluster", 0, "")
	flags.StringVar(&o.StoreDir, "dir", "", "")
	flags.StringVar(&o.LogFile, "log", "", "")
	flags.BoolVar(&o.SyncAlways, "sync", false, "")
	routes := flags.String("routes", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.Cluster.Name, o.Cluster.Host, o.Cluster.NoAdvertise = "faults", "127.0.0.1", true // clients go through links of ours
	// Servers connect by ways of ours as well, and not to what others know of them.
	o.Cluster.Advertise = "127.0.0.1:9"
	for _, text := range strings.Split(*routes, ",") {
		u, err := url.Parse(text)
		if err != nil {
			return err
		}
		o.Routes = append(o.Routes, u)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	go s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(30 * time.Second) {
		return errors.New("the NATS server does not start")
	}
	gone := make(chan struct{})
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-ctx.Done():
	case <-gone:
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serveNATS is the role of the NATS server: JetStream on files with the server's own settings, sync interval included.
func serveNATS(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("nats", flag.ContinueOnError)
	dir := flags.String("dir", "", "folder of the streams")
	name := flags.String("name", "", "name of the server in a cluster")
	port := flags.Int("cluster", 0, "port for the other servers of the cluster")
	routes := flags.String("routes", "", "URLs of the servers of the cluster")
	marks := marksFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	o := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: *dir, NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 30, // streams reserve their limits; the disk is the bound
		ServerName: *name,
	}
	if *name != "" {
		o.Cluster = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: *port}
		o.Routes = server.RoutesFromStr(*routes)
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	go s.Start()
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if !s.ReadyForConnections(30 * time.Second) {
		return errors.New("the NATS server does not start")
	}
	fmt.Println(s.ClientURL())
	return marks.serve(ctx, untilOrphaned)
}

// untilOrphaned ends with the context or with the process that started this one.
func untilOrphaned(ctx context.Context) error {
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

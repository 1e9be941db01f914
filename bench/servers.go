package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/bench/process"
)

// bareStream has the bare worker's jobs: a work queue on files, as the runner's.
const bareStream = "BENCH_BARE"

// clusterServers is how many servers keep each stream of a cluster.
const clusterServers = 3

// servers is the NATS servers, one or a cluster, and the orchestrator's own connection to them.
type servers struct {
	nats    process.List
	url     string
	nc      *nats.Conn
	js      jetstream.JetStream
	refused chan error // the first job that the stream refused
}

// serve connects to servers that have been started, which print their URLs when clients can connect.
func serve(ctx context.Context, started process.List) (*servers, error) {
	s := &servers{nats: started, refused: make(chan error, 1)}
	var urls []string
	for _, p := range started {
		url, err := p.Line()
		if err != nil {
			s.leave()
			return nil, err
		}
		urls = append(urls, url)
	}
	s.url = strings.Join(urls, ",")
	if err := s.connect(ctx); err != nil {
		s.leave()
		return nil, fmt.Errorf("NATS: %w", err)
	}
	return s, nil
}

func (s *servers) connect(ctx context.Context) (err error) {
	if s.nc, err = nats.Connect(s.url); err != nil {
		return err
	}
	refuse := func(_ jetstream.JetStream, _ *nats.Msg, err error) {
		select {
		case s.refused <- err:
		default:
		}
	}
	s.js, err = jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(2000), jetstream.WithPublishAsyncErrHandler(refuse))
	if err != nil {
		return err
	}
	stream, err := s.createStream(ctx)
	if err != nil {
		return err
	}
	_, err = stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "work", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000, AckWait: 30 * time.Second,
	})
	return err
}

// createStream makes the bare worker's stream on all servers, which a cluster cannot do before it is whole.
func (s *servers) createStream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		stream, err := s.tryStream(ctx)
		if err == nil || len(s.nats) == 1 || ctx.Err() != nil {
			return stream, err
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// tryStream gives up after some seconds: a cluster without a leader does not answer.
func (s *servers) tryStream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: bareStream, Subjects: []string{"bare.jobs"}, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: len(s.nats),
	})
}

// leave ends the NATS servers and the connection to them.
func (s *servers) leave() {
	if s.nc != nil {
		s.nc.Close()
	}
	_ = s.nats.Stop()
}

// acknowledged waits until the stream has answered for each job, and returns what it refused.
func (s *servers) acknowledged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-s.js.PublishAsyncComplete():
	case <-ctx.Done():
		return fmt.Errorf("not all jobs are acknowledged: %w", ctx.Err())
	}
	select {
	case err := <-s.refused:
		return err
	default:
		return nil
	}
}

func (s *servers) awaitCount(ctx context.Context, stream string, want uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		info, err := s.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		got := info.CachedInfo().State.Msgs
		if got == want {
			return nil
		}
		wait(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("stream %s has %d messages, not %d", stream, got, want)
		}
	}
}

// awaitLane waits until a database's consumer is there.
func (s *servers) awaitLane(ctx context.Context, p *process.Process, database string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := s.js.Consumer(ctx, "DBRUNNER_JOBS_"+database, "work")
		if err == nil || ctx.Err() != nil {
			return err
		}
		if p.Ended() {
			return errors.New("the runner does not start")
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// startCluster starts the servers, which print their URLs when clients can connect.
func startCluster(dir string) (ps process.List, err error) {
	ports, err := freePorts(clusterServers)
	if err != nil {
		return nil, err
	}
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		name := fmt.Sprintf("n%d", i+1)
		p, err := process.StartRole("nats", "-dir", filepath.Join(dir, name), "-name", name, "-cluster", fmt.Sprint(port),
			"-routes", strings.Join(routes, ","))
		if err != nil {
			return nil, errors.Join(err, ps.Stop())
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// freePorts are ports that have no listener.
func freePorts(count int) (ports []int, err error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
	}()
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

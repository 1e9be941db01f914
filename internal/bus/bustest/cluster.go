package bustest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// settleTime bounds how long a cluster may take to have a leader.
const settleTime = 60 * time.Second

// Nodes is a cluster of servers in this process.
type Nodes struct {
	t     testing.TB
	Nodes []*Node
}

// Cluster starts a cluster of size servers and waits until it has a leader. It ends with the test.
func Cluster(t testing.TB, size int, configure ...func(*server.Options)) *Nodes {
	t.Helper()
	routePorts := make([]int, size)
	for i := range routePorts {
		routePorts[i] = freePort(t)
	}
	c := &Nodes{t: t}
	for i := range size {
		join := func(o *server.Options) {
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: routePorts[i]}
			o.Routes = routes(routePorts)
		}
		node := newNode(t, fmt.Sprintf("node%d", i+1), append([]func(*server.Options){join}, configure...))
		c.Nodes = append(c.Nodes, node)
	}
	started := make(chan error, size)
	for _, n := range c.Nodes { // together: a node alone has no quorum
		go func() { started <- n.start() }()
	}
	for range c.Nodes {
		require.NoError(t, <-started)
	}
	c.AwaitLeader()
	return c
}

func routes(ports []int) []*url.URL {
	var out []*url.URL
	for _, p := range ports {
		out = append(out, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p))})
	}
	return out
}

// URL names all servers of the cluster.
func (c *Nodes) URL() string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.ClientURL())
	}
	return strings.Join(urls, ",")
}

// AwaitLeader waits until the cluster can be changed: it has a leader that sees all running servers.
func (c *Nodes) AwaitLeader() {
	c.t.Helper()
	require.Eventually(c.t, c.settled, settleTime, 20*time.Millisecond, "the cluster has no leader")
}

func (c *Nodes) settled() bool {
	running, leader := 0, false
	for _, n := range c.Nodes {
		s := n.Server()
		if s == nil {
			continue
		}
		running++
		if s.JetStreamIsLeader() {
			leader = len(s.JetStreamClusterPeers()) >= running
		}
		if !s.JetStreamIsCurrent() {
			return false
		}
	}
	return leader
}

// StreamLeader is the server that leads a stream, nil while there is none.
func (c *Nodes) StreamLeader(stream string) *Node {
	for _, n := range c.Nodes {
		if s := n.Server(); s != nil && s.JetStreamIsStreamLeader("$G", stream) {
			return n
		}
	}
	return nil
}

// ConsumerLeader is the server that leads a consumer, nil while there is none.
func (c *Nodes) ConsumerLeader(stream, consumer string) *Node {
	for _, n := range c.Nodes {
		if s := n.Server(); s != nil && s.JetStreamIsConsumerLeader("$G", stream, consumer) {
			return n
		}
	}
	return nil
}

// StepDownStream makes another server lead a stream.
func (c *Nodes) StepDownStream(nc *nats.Conn, stream string) {
	c.t.Helper()
	c.stepDown(nc, "$JS.API.STREAM.LEADER.STEPDOWN."+stream)
}

// StepDownConsumer makes another server lead a consumer.
func (c *Nodes) StepDownConsumer(nc *nats.Conn, stream, consumer string) {
	c.t.Helper()
	c.stepDown(nc, "$JS.API.CONSUMER.LEADER.STEPDOWN."+stream+"."+consumer)
}

func (c *Nodes) stepDown(nc *nats.Conn, subject string) {
	c.t.Helper()
	_, err := nc.Request(subject, nil, 10*time.Second)
	require.NoError(c.t, err)
}

// Plain is a plain client of a server with JetStream, as an upstream system would have it. It ends with the test.
func Plain(t testing.TB, urls string, options ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	always := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}
	nc, err := nats.Connect(urls, append(always, options...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(30*time.Second))
	require.NoError(t, err)
	return nc, js
}

func portText(port int) string { return strconv.Itoa(port) }

// freePort finds a port that nothing listens on at the moment. It stays below the range from which the system takes
// the ports of outgoing connections: one of those could be in the way when a server is restarted on its port.
func freePort(t testing.TB) int {
	t.Helper()
	const lowest, highest = 10_000, 32_000
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", portText(port)))
		if err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	require.FailNow(t, "no free port")
	return 0
}

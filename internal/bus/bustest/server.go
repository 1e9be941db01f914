package bustest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/embedded"
)

// stopTime bounds how long a server may take to stop.
const stopTime = 30 * time.Second

// Node is one NATS server with JetStream, alone or in a cluster.
type Node struct {
	t         testing.TB
	name      string
	dir       string
	port      int
	configure []func(*server.Options)

	mu       sync.Mutex
	embedded *embedded.Server // nil while stopped
}

// Server starts a server on a free port with its files in a temporary directory; configure may change its
// options, for example add users. It ends with the test.
func Server(t testing.TB, configure ...func(*server.Options)) *Node {
	t.Helper()
	n := newNode(t, "solo", configure)
	n.Start()
	return n
}

func newNode(t testing.TB, name string, configure []func(*server.Options)) *Node {
	t.Helper()
	n := &Node{t: t, name: name, dir: t.TempDir(), port: freePort(t), configure: configure}
	t.Cleanup(n.Stop)
	return n
}

// Start starts a stopped server again, on its port and with its files.
func (n *Node) Start() {
	n.t.Helper()
	require.NoError(n.t, n.start())
}

func (n *Node) start() error {
	e, err := embedded.Start(embedded.Options{
		Dir:  n.dir,
		Port: n.port,
		Configure: func(o *server.Options) {
			o.ServerName = n.name
			for _, f := range n.configure {
				f(o)
			}
		},
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.embedded = e
	n.mu.Unlock()
	return nil
}

// Stop shuts the server down; it does nothing if that has been done.
func (n *Node) Stop() {
	n.mu.Lock()
	e := n.embedded
	n.embedded = nil
	n.mu.Unlock()
	if e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	require.NoError(n.t, e.Close(ctx))
}

// Restart stops and starts the server.
func (n *Node) Restart() {
	n.t.Helper()
	n.Stop()
	n.Start()
}

// Name is the server's name, which identifies a stream's leader.
func (n *Node) Name() string { return n.name }

// ClientURL is where clients connect; it stays the same over restarts.
func (n *Node) ClientURL() string {
	return "nats://" + net.JoinHostPort("127.0.0.1", portText(n.port))
}

// Server is the running server, nil while it is stopped.
func (n *Node) Server() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.embedded == nil {
		return nil
	}
	return n.embedded.NATS()
}

// Users replaces open access by users with passwords and permissions.
func Users(users ...*server.User) func(*server.Options) {
	return func(o *server.Options) { o.Users = users }
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/test/faults/network"
)

// nodes is the size of the cluster.
const nodes = 3

// settleTime bounds how long the cluster may take to be whole.
const settleTime = 60 * time.Second

// node is one NATS server; it keeps its ports and its files over restarts.
type node struct {
	name                string
	port, http, cluster int
	dir                 string
	link                *network.Link // that the runners reach it by

	mu sync.Mutex
	p  *process // nil while it is down
}

// cluster is the NATS servers.
type cluster struct {
	nodes  []*node
	routes *routes
	self   string
	sync   bool // each write of the servers reaches the disk before it is acknowledged
}

func newCluster(dir string, syncAlways bool) (*cluster, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &cluster{self: self, sync: syncAlways}
	var ports []int
	for i := range nodes {
		n := &node{name: fmt.Sprintf("n%d", i+1), dir: filepath.Join(dir, fmt.Sprintf("nats%d", i+1))}
		for _, port := range []*int{&n.port, &n.http, &n.cluster} {
			if *port, err = freePort(); err != nil {
				return nil, err
			}
		}
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return nil, err
		}
		if n.link, err = network.NewLink(address(n.port)); err != nil {
			return nil, err
		}
		ports = append(ports, n.cluster)
		c.nodes = append(c.nodes, n)
	}
	if c.routes, err = newRoutes(ports); err != nil {
		return nil, err
	}
	for _, n := range c.nodes {
		if err := c.start(n); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freePort finds a port without a listener, below those that the system gives to outgoing connections.
func freePort() (int, error) {
	const lowest, highest = 10_000, 32_000
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp", address(port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port")
}

// start starts a server that is down. Another fault may have restarted it already.
func (c *cluster) start(n *node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.p != nil && !n.p.ended() {
		return nil
	}
	p, err := start(n.name, n.dir+".out", []string{"HOME=" + n.dir, "GOMAXPROCS=2"}, c.self, "nats", "-name", n.name,
		"-port", fmt.Sprint(n.port), "-http", fmt.Sprint(n.http), "-cluster", fmt.Sprint(n.cluster), "-routes", c.routes.of(slices.Index(c.nodes, n)),
		"-dir", n.dir, "-log", n.dir+".log", fmt.Sprintf("-sync=%t", c.sync))
	if err == nil {
		n.p = p
	}
	return err
}

func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.p
}

// stop ends a server in order.
func (n *node) stop() { n.process().end(30 * time.Second) }

// crash kills all servers and starts them again: what they have written is with the system, which goes on.
func (c *cluster) crash() (err error) {
	var killed []*process // another fault may restart a server meanwhile
	for _, n := range c.nodes {
		killed = append(killed, n.process())
		killed[len(killed)-1].signal(syscall.SIGKILL)
	}
	for i, n := range c.nodes {
		<-killed[i].done
		err = errors.Join(err, c.start(n))
	}
	return err
}

func (c *cluster) close() {
	var all sync.WaitGroup
	for _, n := range c.nodes {
		if n.process() != nil {
			all.Go(n.stop)
		}
		n.link.Close()
	}
	all.Wait()
	c.routes.close()
}

// urls of the servers themselves.
func (c *cluster) urls() string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+address(n.port))
	}
	return strings.Join(urls, ",")
}

// linked are the servers' URLs behind the links.
func (c *cluster) linked() string {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.link.Address())
	}
	return strings.Join(urls, ",")
}

// connect is a client of this program's own, which no fault is made for but those of the servers.
func (c *cluster) connect() (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(c.urls(), nats.Name("faults"), nats.UserInfo(natsUser, natsPassword), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1),
		nats.PingInterval(time.Second),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})) // broken links are what the bench is about
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	return nc, js, err
}

// whole waits until all servers are up, one leads, and none lags behind.
func (c *cluster) whole(ctx context.Context) error {
	return eventually(ctx, settleTime, "the NATS cluster is whole", func() bool {
		for _, n := range c.nodes {
			if n.process().ended() || !n.healthy() {
				return false
			}
		}
		return true
	})
}

// healthy asks a server whether its streams and consumers are as new as the others'.
func (n *node) healthy() bool {
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Get("http://" + address(n.http) + "/healthz")
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// strangers counts the connections of a server that are not this program's.
func (n *node) strangers() (count int, err error) {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get("http://" + address(n.http) + "/connz?limit=1000")
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	var list struct {
		Connections []struct {
			Name string `json:"name"`
		} `json:"connections"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		return 0, err
	}
	for _, conn := range list.Connections {
		if conn.Name != "faults" {
			count++
		}
	}
	return count, nil
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/test/faults/network"
)

// Two faults may restart a server at the same time: the crash of all servers goes on when another fault has restarted one of them, and neither
// starts it a second time.
func TestACrashBesideAnotherRestart(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "server")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 3600\n"), 0o700))
	c := &cluster{self: script, routes: &routes{}}
	for i := range c.routes {
		for j := range c.routes[i] {
			var err error
			c.routes[i][j], err = network.NewWay(address(1))
			require.NoError(t, err)
		}
	}
	t.Cleanup(c.routes.close)
	for i := range nodes {
		n := &node{name: fmt.Sprintf("n%d", i+1), dir: filepath.Join(t.TempDir(), "nats")}
		c.nodes = append(c.nodes, n)
		require.NoError(t, c.start(n))
		t.Cleanup(func() { n.process().kill() })
	}
	first, other := c.nodes[0], c.nodes[1]
	slow := &process{cmd: first.p.cmd, done: make(chan struct{})} // one that the system takes long to end
	first.p = slow
	before := other.process()
	crashed := make(chan error, 1)
	go func() { crashed <- c.crash() }()
	<-before.done
	require.NoError(t, c.start(other))
	restarted := other.process()
	require.NotSame(t, before, restarted)
	close(slow.done)
	select {
	case err := <-crashed:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.FailNow(t, "the crash waits for a server that another fault has restarted")
	}
	require.Same(t, restarted, other.process())
	for _, n := range c.nodes {
		require.False(t, n.process().ended(), n.name)
	}
}

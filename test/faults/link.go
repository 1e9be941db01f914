package main

import (
	"net"
	"sync"
	"time"
)

// link is a way between the runners and a server that can be cut, and held so that nothing gets through.
type link struct {
	target string
	listen net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]net.Conn // client and server
	gate   chan struct{}         // closed: traffic flows
}

func newLink(target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &link{target: target, listen: l, open: map[net.Conn]net.Conn{}, gate: make(chan struct{})}
	close(k.gate)
	k.wg.Go(k.accept)
	return k, nil
}

func (k *link) address() string { return k.listen.Addr().String() }

// cut ends every connection.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for client, server := range k.open {
		_ = client.Close()
		_ = server.Close()
	}
}

// hold lets nothing through in either direction, and ends no connection, until release.
func (k *link) hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gate = make(chan struct{})
}

func (k *link) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.gate:
	default:
		close(k.gate)
	}
}

func (k *link) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.release()
	_ = k.listen.Close()
	k.cut()
	k.wg.Wait()
}

func (k *link) accept() {
	for {
		client, err := k.listen.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.serve(client) })
	}
}

func (k *link) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", k.target, 5*time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	k.mu.Lock()
	k.open[client] = server
	closed := k.closed
	k.mu.Unlock()
	if closed {
		_ = client.Close()
	}
	var both sync.WaitGroup
	both.Go(func() { k.copy(server, client) })
	both.Go(func() { k.copy(client, server) })
	both.Wait()
	k.mu.Lock()
	delete(k.open, client)
	k.mu.Unlock()
}

// copy carries one direction, and ends both when it ends.
func (k *link) copy(to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			k.mu.Lock()
			gate := k.gate
			k.mu.Unlock()
			<-gate
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

package network

import (
	"net"
	"sync"
	"time"
)

// Link is a way between the runners and a server that can be cut, and held so that nothing gets through.
type Link struct {
	target string
	listen net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]net.Conn // client and server
	gate   chan struct{}         // closed: traffic flows
}

// NewLink returns a link to a server.
func NewLink(target string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k := &Link{target: target, listen: l, open: map[net.Conn]net.Conn{}, gate: make(chan struct{})}
	close(k.gate)
	k.wg.Go(k.accept)
	return k, nil
}

// Address is where the link listens.
func (k *Link) Address() string { return k.listen.Addr().String() }

// Cut ends every connection.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for client, server := range k.open {
		_ = client.Close()
		_ = server.Close()
	}
}

// Hold lets nothing through in either direction, and ends no connection, until Release.
func (k *Link) Hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gate = make(chan struct{})
}

// Release lets everything through again.
func (k *Link) Release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.gate:
	default:
		close(k.gate)
	}
}

// Close ends the link and its connections.
func (k *Link) Close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.Release()
	_ = k.listen.Close()
	k.Cut()
	k.wg.Wait()
}

func (k *Link) accept() {
	for {
		client, err := k.listen.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.serve(client) })
	}
}

func (k *Link) serve(client net.Conn) {
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
func (k *Link) copy(to, from net.Conn) {
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

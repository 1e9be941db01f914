// Package cutproxy stands between a client and a PostgreSQL server, in tests and in the fault bench, and cuts their link at a message that the
// caller names.
package cutproxy

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// Message is one message of PostgreSQL's protocol on its way to the server.
type Message struct {
	Kind byte // 'Q' simple query, 'P' parse, 'B' bind, 'E' execute, 'S' sync, …
	Body []byte
}

// Commit matches the message that commits a transaction: a simple query or a statement that starts with COMMIT.
func Commit(m Message) bool {
	switch m.Kind {
	case 'Q':
		return bytes.HasPrefix(m.Body, []byte("COMMIT"))
	case 'P':
		_, sql, _ := bytes.Cut(m.Body, []byte{0})
		return bytes.HasPrefix(sql, []byte("COMMIT"))
	}
	return false
}

// Text matches a message that holds the text, such as a job's SQL.
func Text(text string) func(Message) bool {
	return func(m Message) bool { return bytes.Contains(m.Body, []byte(text)) }
}

// Proxy stands between a client and a PostgreSQL server and cuts the link at a message that the test names.
// It understands the frames of the protocol and nothing of TLS: clients connect with sslmode=disable.
type Proxy struct {
	t      testing.TB
	target string
	listen net.Listener
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	links    map[*link]struct{}
	refuse   bool
	reset    bool
	gate     chan struct{} // closed: traffic flows
	match    func(Message) bool
	after    bool
	late     time.Duration // the message reaches the server this much after the client has lost the link
	happened chan struct{} // closed when the armed cut was made
}

// New returns a proxy in front of the address; it ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := Launch(target)
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	t.Cleanup(p.close)
	return p
}

// Launch returns a proxy as New does, for a program that is no test. The caller calls Close, and does not
// call URL.
func Launch(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listen: l, links: make(map[*link]struct{}), gate: make(chan struct{})}
	close(p.gate)
	p.wg.Go(p.accept)
	return p, nil
}

// Close ends the proxy of Launch.
func (p *Proxy) Close() { p.close() }

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listen.Addr().String() }

// URL returns the connection string with the proxy in place of the server.
func (p *Proxy) URL(connection string) string {
	u, err := url.Parse(connection)
	if err != nil {
		p.t.Fatal("not a URL")
	}
	u.Host = p.Address()
	q := u.Query()
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	return u.String()
}

// CutBefore arms one cut: the next message that matches does not reach the server, nor anything after it. When
// the segments before it are answered, both sides lose the link. The channel is closed when it happened.
func (p *Proxy) CutBefore(match func(Message) bool) <-chan struct{} {
	return p.arm(match, false)
}

// CutAfter arms one cut: the next message that matches reaches the server with the rest of its segment, the
// server answers, and then both sides lose the link. Nothing that the server says from then on reaches the
// client.
func (p *Proxy) CutAfter(match func(Message) bool) <-chan struct{} {
	return p.arm(match, true)
}

// CutLate arms one cut: the client loses the link at the next message that matches, while the message itself is still on
// its way: it reaches the server with the rest of its segment after the delay. Then the server loses the link as well. The
// channel is closed when the client has lost it.
func (p *Proxy) CutLate(match func(Message) bool, delay time.Duration) <-chan struct{} {
	happened := p.arm(match, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = delay
	return happened
}

// Disarm takes an armed cut back that has not happened.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match = nil
}

func (p *Proxy) arm(match func(Message) bool, after bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match, p.after, p.late, p.happened = match, after, 0, make(chan struct{})
	return p.happened
}

// Reset makes cuts a TCP reset instead of an orderly end.
func (p *Proxy) Reset(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset = on
}

// Refuse makes the proxy hang up on new connections immediately.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Block holds everything back, in both directions, until Unblock: a network that drops packets.
func (p *Proxy) Block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// Unblock ends Block.
func (p *Proxy) Unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// CutAll cuts every link that is open.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	open := make([]*link, 0, len(p.links))
	for l := range p.links {
		open = append(open, l)
	}
	p.mu.Unlock()
	for _, l := range open {
		l.cut()
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listen.Close()
	p.CutAll()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse || p.closed
		p.mu.Unlock()
		if refuse {
			_ = client.Close()
			continue
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{p: p, client: client, server: server, ended: make(chan struct{})}
	p.mu.Lock()
	p.links[l] = struct{}{}
	closed := p.closed
	p.mu.Unlock()
	if closed {
		l.cut()
	}
	p.wg.Go(l.toClient)
	l.toServer()
	l.cut()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// armed is what to do with a message that an armed cut is for.
type armed struct {
	after    bool
	late     time.Duration
	happened chan struct{}
}

// take returns what to do with a message: the armed cut is for the first one that matches. nil: nothing.
func (p *Proxy) take(m Message) *armed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.match == nil || !p.match(m) {
		return nil
	}
	p.match = nil
	return &armed{after: p.after, late: p.late, happened: p.happened}
}

package dbtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
)

// TDSProxy stands between a client and a SQL Server and cuts the link at a message that the test names. It understands
// the frames of the protocol and nothing of encryption: clients connect with encrypt=disable.
type TDSProxy struct {
	target string
	listen net.Listener
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows
	links    map[net.Conn]net.Conn
	refuse   bool
	text     []byte // of the message to cut at; nil: none is armed
	after    bool
	happened chan struct{}
}

// NewTDSProxy returns a proxy in front of the address; it ends with the test.
func NewTDSProxy(t testing.TB, target string) *TDSProxy {
	t.Helper()
	p, err := LaunchTDSProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// LaunchTDSProxy starts a proxy in front of the address; the caller closes it.
func LaunchTDSProxy(target string) (*TDSProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &TDSProxy{target: target, listen: l, links: map[net.Conn]net.Conn{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Address is where clients connect to.
func (p *TDSProxy) Address() string { return p.listen.Addr().String() }

// URL returns the connection string with the proxy in place of the server.
func (p *TDSProxy) URL(t testing.TB, connection string) string {
	t.Helper()
	u, err := url.Parse(connection)
	if err != nil {
		t.Fatal("not a URL")
	}
	u.Host = p.Address()
	q := u.Query()
	q.Set("encrypt", "disable")
	u.RawQuery = q.Encode()
	return u.String()
}

// CutBefore arms one cut: the next message with this text does not reach the server, and both sides lose the link.
func (p *TDSProxy) CutBefore(text string) <-chan struct{} { return p.arm(text, false) }

// CutAfter arms one cut: the next message with this text reaches the server, which answers, and both sides lose the
// link before the client hears of it.
func (p *TDSProxy) CutAfter(text string) <-chan struct{} { return p.arm(text, true) }

func (p *TDSProxy) arm(text string, after bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.after, p.happened = nil, after, make(chan struct{})
	for _, u := range utf16.Encode([]rune(text)) {
		p.text = binary.LittleEndian.AppendUint16(p.text, u)
	}
	return p.happened
}

// Disarm takes back the cut that has not happened.
func (p *TDSProxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = nil
}

// Refuse makes the proxy hang up on new connections immediately.
func (p *TDSProxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// CutAll cuts every link that is open.
func (p *TDSProxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.links {
		_, _ = client.Close(), server.Close()
	}
}

// Close ends the proxy and all links.
func (p *TDSProxy) Close() {
	_ = p.listen.Close()
	p.Refuse(true)
	p.CutAll()
	p.wg.Wait()
}

func (p *TDSProxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", p.target, 10*time.Second)
		if err != nil || !p.admit(client, server) {
			_ = client.Close()
			continue
		}
		p.wg.Go(func() { p.serve(client, server) })
	}
}

func (p *TDSProxy) admit(client, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		_ = server.Close()
		return false
	}
	p.links[client] = server
	return true
}

// serve forwards message by message; whatever the server says goes through until the link is cut.
func (p *TDSProxy) serve(client, server net.Conn) {
	muted := &mute{to: client}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(muted, server)
		_ = client.Close()
		muted.gone()
	})
	in := bufio.NewReader(client)
	for {
		message, err := readTDS(in)
		if err != nil {
			break
		}
		cut, after, happened := p.take(message)
		if cut && !after {
			close(happened)
			break
		}
		heard := muted.silence(cut)
		if _, err := server.Write(message); err != nil {
			break
		}
		if cut {
			<-heard
			close(happened)
			break
		}
	}
	_, _ = client.Close(), server.Close()
	answers.Wait()
	p.mu.Lock()
	delete(p.links, client)
	p.mu.Unlock()
}

// take returns what to do with a message: the armed cut is for the first one that has the text.
func (p *TDSProxy) take(message []byte) (cut, after bool, happened chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == nil || !bytes.Contains(message, p.text) {
		return false, false, nil
	}
	p.text = nil
	return true, p.after, p.happened
}

// mute forwards what the server says until it is to be silent; then it reports that the server has sent something, or is
// gone.
type mute struct {
	to net.Conn

	mu    sync.Mutex
	heard chan struct{} // nil: it is not silent
	ended bool          // the server is gone
	once  sync.Once
}

func (m *mute) silence(on bool) <-chan struct{} {
	if !on {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = make(chan struct{})
	if m.ended {
		m.report()
	}
	return m.heard
}

func (m *mute) report() { m.once.Do(func() { close(m.heard) }) }

// gone reports that the server says nothing any more.
func (m *mute) gone() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended = true; m.heard != nil {
		m.report()
	}
}

// Write takes what the server says.
func (m *mute) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heard != nil {
		m.report()
		return len(b), nil
	}
	return m.to.Write(b)
}

// readTDS reads one message: packets up to the one that ends it.
func readTDS(in *bufio.Reader) ([]byte, error) {
	var message []byte
	for {
		head, err := in.Peek(8)
		if err != nil {
			return nil, err
		}
		last := head[1]&1 != 0
		packet := make([]byte, max(binary.BigEndian.Uint16(head[2:]), 8))
		if _, err := io.ReadFull(in, packet); err != nil {
			return nil, err
		}
		message = append(message, packet...)
		if last {
			return message, nil
		}
	}
}

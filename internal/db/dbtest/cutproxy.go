package dbtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"
)

// FrontendMessage is one message of PostgreSQL's protocol on its way to the server.
type FrontendMessage struct {
	Kind byte // 'Q' simple query, 'P' parse, 'B' bind, 'E' execute, 'S' sync, …
	Body []byte
}

// Commit matches the message that commits a transaction: a simple query or a statement that begins with COMMIT.
func Commit(m FrontendMessage) bool {
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
func Text(text string) func(FrontendMessage) bool {
	return func(m FrontendMessage) bool { return bytes.Contains(m.Body, []byte(text)) }
}

// CutProxy stands between a client and a PostgreSQL server and cuts the link at a message that the test names.
// It understands the frames of the protocol and nothing of TLS: clients connect with sslmode=disable.
type CutProxy struct {
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
	match    func(FrontendMessage) bool
	after    bool
	late     time.Duration // the message reaches the server this much after the client has lost the link
	happened chan struct{} // closed when the armed cut was made
}

// NewCutProxy returns a proxy in front of the address; it ends with the test.
func NewCutProxy(t testing.TB, target string) *CutProxy {
	t.Helper()
	p, err := LaunchCutProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	p.t = t
	t.Cleanup(p.close)
	return p
}

// LaunchCutProxy returns a proxy as NewCutProxy does, for a program that is no test. The caller calls Close, and does not
// call URL.
func LaunchCutProxy(target string) (*CutProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &CutProxy{target: target, listen: l, links: make(map[*link]struct{}), gate: make(chan struct{})}
	close(p.gate)
	p.wg.Go(p.accept)
	return p, nil
}

// Close ends the proxy of LaunchCutProxy.
func (p *CutProxy) Close() { p.close() }

// Address is where the proxy listens.
func (p *CutProxy) Address() string { return p.listen.Addr().String() }

// URL returns the connection string with the proxy in place of the server.
func (p *CutProxy) URL(connection string) string {
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
func (p *CutProxy) CutBefore(match func(FrontendMessage) bool) <-chan struct{} {
	return p.arm(match, false)
}

// CutAfter arms one cut: the next message that matches reaches the server with the rest of its segment, the
// server answers, and then both sides lose the link. Nothing that the server says from then on reaches the
// client.
func (p *CutProxy) CutAfter(match func(FrontendMessage) bool) <-chan struct{} {
	return p.arm(match, true)
}

// CutLate arms one cut: the client loses the link at the next message that matches, while the message itself is still on
// its way: it reaches the server with the rest of its segment after the delay. Then the server loses the link as well. The
// channel is closed when the client has lost it.
func (p *CutProxy) CutLate(match func(FrontendMessage) bool, delay time.Duration) <-chan struct{} {
	happened := p.arm(match, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late = delay
	return happened
}

// Disarm takes an armed cut back that has not happened.
func (p *CutProxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match = nil
}

func (p *CutProxy) arm(match func(FrontendMessage) bool, after bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.match, p.after, p.late, p.happened = match, after, 0, make(chan struct{})
	return p.happened
}

// Reset makes cuts a TCP reset instead of an orderly end.
func (p *CutProxy) Reset(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset = on
}

// Refuse makes the proxy hang up on new connections at once.
func (p *CutProxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Block holds everything back, in both directions, until Unblock: a network that drops packets.
func (p *CutProxy) Block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// Unblock ends Block.
func (p *CutProxy) Unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// CutAll cuts every link that is open.
func (p *CutProxy) CutAll() {
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

func (p *CutProxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listen.Close()
	p.CutAll()
	p.wg.Wait()
}

func (p *CutProxy) accept() {
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

func (p *CutProxy) serve(client net.Conn) {
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
func (p *CutProxy) take(m FrontendMessage) *armed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.match == nil || !p.match(m) {
		return nil
	}
	p.match = nil
	return &armed{after: p.after, late: p.late, happened: p.happened}
}

// link is one client's connection with its way to the server.
type link struct {
	p              *CutProxy
	client, server net.Conn
	ended          chan struct{}
	once           sync.Once

	mu       sync.Mutex
	due      int           // segments whose end the server has not answered
	happened chan struct{} // set: the link is cut when nothing is due any more
	deliver  bool          // the answers that are due still reach the client
	muted    bool          // the client is gone, and the link is not: nobody hears the answers
}

// cut ends both directions.
func (l *link) cut() {
	l.once.Do(func() {
		l.p.mu.Lock()
		reset := l.p.reset
		l.p.mu.Unlock()
		for _, c := range []net.Conn{l.client, l.server} {
			if tcp, ok := c.(*net.TCPConn); ok && reset {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}
		close(l.ended)
	})
}

// pass waits while the proxy is blocked; false: the link is gone.
func (l *link) pass() bool {
	l.p.mu.Lock()
	gate := l.p.gate
	l.p.mu.Unlock()
	select {
	case <-gate:
		return true
	case <-l.ended:
		return false
	}
}

const (
	sslRequest    = 80877103
	gssRequest    = 80877104
	cancelRequest = 80877102
)

// toServer forwards message by message.
func (l *link) toServer() {
	in := bufio.NewReaderSize(l.client, 64<<10)
	if err := l.startup(in); err != nil {
		return
	}
	ending := false
	for {
		frame, err := readFrame(in)
		if err != nil || !l.pass() {
			return
		}
		m := FrontendMessage{Kind: frame[0], Body: frame[5:]}
		var happened chan struct{}
		if cut := l.p.take(m); cut != nil {
			switch {
			case !cut.after:
				l.endAfterAnswers(cut.happened)
				return
			case cut.late > 0:
				l.endLate(in, frame, cut)
				return
			}
			happened, ending = cut.happened, true
		}
		l.expect(m.Kind, happened)
		if _, err := l.server.Write(frame); err != nil {
			return
		}
		if ending && endsSegment(m.Kind) {
			<-l.ended // toClient ends the link
			return
		}
	}
}

// endLate takes the link from the client, and lets the rest of the segment reach the server when the time has come.
func (l *link) endLate(in *bufio.Reader, frame []byte, cut *armed) {
	rest := append([]byte(nil), frame...)
	for kind := frame[0]; !endsSegment(kind); {
		next, err := readFrame(in)
		if err != nil {
			break
		}
		kind = next[0]
		rest = append(rest, next...)
	}
	l.mu.Lock()
	l.muted = true
	l.mu.Unlock()
	_ = l.client.Close()
	close(cut.happened)
	wait := time.NewTimer(cut.late)
	defer wait.Stop()
	select {
	case <-wait.C:
		if _, err := l.server.Write(rest); err == nil {
			wait.Reset(lateAnswer)
			select {
			case <-wait.C:
			case <-l.ended:
			}
		}
	case <-l.ended:
	}
}

func (l *link) isMuted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.muted
}

// lateAnswer is how long a server may still work on what reached it late.
const lateAnswer = time.Second

// endAfterAnswers cuts the link when nothing is due any more.
func (l *link) endAfterAnswers(happened chan struct{}) {
	l.mu.Lock()
	due := l.due
	if due > 0 {
		l.happened, l.deliver = happened, true
	}
	l.mu.Unlock()
	if due == 0 {
		l.cut()
		close(happened)
		return
	}
	<-l.ended
}

func endsSegment(kind byte) bool { return kind == 'Q' || kind == 'S' || kind == 'F' }

// startup forwards the first message, which has no kind. What asks for encryption is declined.
func (l *link) startup(in *bufio.Reader) error {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(in, head); err != nil {
			return err
		}
		size, code := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if code == sslRequest || code == gssRequest {
			if _, err := l.client.Write([]byte{'N'}); err != nil {
				return err
			}
			continue
		}
		rest := make([]byte, max(size, 8)-8)
		if _, err := io.ReadFull(in, rest); err != nil || !l.pass() {
			return errors.Join(err, io.ErrClosedPipe)
		}
		if code != cancelRequest {
			l.expect('S', nil) // the server is ready for queries at the end
		}
		_, err := l.server.Write(append(head, rest...))
		return err
	}
}

// expect counts the answers that are due.
func (l *link) expect(kind byte, happened chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if endsSegment(kind) {
		l.due++
	}
	if happened != nil {
		l.happened = happened
	}
}

// toClient forwards message by message until the link ends, or swallows the answers to the last cut.
func (l *link) toClient() {
	defer l.cut()
	in := bufio.NewReaderSize(l.server, 64<<10)
	for {
		frame, err := readFrame(in)
		if err != nil || !l.pass() {
			return
		}
		happened, deliver, over := l.answered(frame[0])
		if deliver {
			if _, err := l.client.Write(frame); err != nil && !l.isMuted() {
				return
			}
		}
		if over {
			l.cut()
			close(happened)
			return
		}
	}
}

// answered takes a message of the server into account: whether it reaches the client, and whether it was the
// last one before a cut.
func (l *link) answered(kind byte) (happened chan struct{}, deliver, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if kind == 'Z' {
		l.due--
	}
	return l.happened, !l.muted && (l.happened == nil || l.deliver), l.happened != nil && kind == 'Z' && l.due == 0
}

func readFrame(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(5)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
	_, err = io.ReadFull(in, frame)
	return frame, err
}

package control_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/control"
)

// muteProxy stands between a runner and its server. Once it is mute it keeps back what the server sends, until it cuts the connection.
type muteProxy struct {
	listener net.Listener
	target   string
	asked    chan struct{} // gets a token with each request for a stream's state while it is mute
	lost     chan struct{} // and with what it does not pass on after one

	mu    sync.Mutex
	mute  bool
	conns []net.Conn
}

func newMuteProxy(t *testing.T, target string) *muteProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &muteProxy{listener: listener, target: target, asked: make(chan struct{}, 1), lost: make(chan struct{}, 1)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.mute, p.conns = false, append(p.conns, client, server)
			p.mu.Unlock()
			all.Go(func() { p.forward(server, client, false) })
			all.Go(func() { p.forward(client, server, true) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		all.Wait()
	})
	return p
}

func (p *muteProxy) forward(to io.WriteCloser, from io.Reader, answers bool) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		mute := p.mute
		p.mu.Unlock()
		if mute && !answers && bytes.Contains(buf[:n], []byte("STREAM.INFO")) {
			select {
			case p.asked <- struct{}{}:
			default:
			}
		}
		if mute && answers {
			select {
			case p.lost <- struct{}{}:
			default:
			}
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *muteProxy) silence() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

// speak ends the silence. Nothing that was lost comes later.
func (p *muteProxy) speak() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = false
}

func (p *muteProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// TestALostAnswerDelaysNothing: a runner whose request for pauses or for requests to cancel gets no answer, because its link is lost or
// because the server takes the request and answers nothing, asks again, and does not wait for the answer that was lost.
func TestALostAnswerDelaysNothing(t *testing.T) {
	t.Parallel()
	const attempt = 5 * time.Second // that the request would be waited for
	for lost, lose := range map[string]func(*muteProxy){
		"link lost": (*muteProxy).cut,
		"link kept": func(p *muteProxy) {
			<-p.lost
			p.speak()
		},
	} {
		for what, watch := range map[string]func(*testing.T, *bustest.Bundle, *bus.Conn) (ask func(), came func() bool){
			"pause": func(t *testing.T, b *bustest.Bundle, conn *bus.Conn) (func(), func() bool) {
				p := bustest.WatchPauses(t, conn)
				return func() { pauseFor(t, b.Conn, "meanwhile") }, func() bool { return paused(p)() && p.Known() }
			},
			"cancel request": func(t *testing.T, b *bustest.Bundle, conn *bus.Conn) (func(), func() bool) {
				n := bustest.WatchCancellations(t, conn)
				return func() { require.NoError(t, control.RequestCancel(t.Context(), b.Conn, database, "meanwhile", nil)) },
					func() bool { return n.Open() == 1 && n.Known() }
			},
		} {
			t.Run(what+", "+lost, func(t *testing.T) {
				t.Parallel()
				b := bustest.Setup(t)
				proxy := newMuteProxy(t, strings.TrimPrefix(b.Node.ClientURL(), "nats://"))
				conn, _ := bustest.Connect(t, "nats://"+proxy.listener.Addr().String())
				ask, came := watch(t, b, conn)
				proxy.silence()
				<-proxy.asked
				asked := time.Now()
				lose(proxy)
				ask()
				eventually(t, came)
				require.Less(t, time.Since(asked), attempt-500*time.Millisecond)
			})
		}
	}
}

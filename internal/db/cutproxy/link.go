package cutproxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// link is one client's connection with its way to the server.
type link struct {
	p              *Proxy
	client, server net.Conn
	ended          chan struct{}
	once           sync.Once

	mu       sync.Mutex
	due      int           // segments whose end the server has not answered
	happened chan struct{} // set: the link is cut when nothing is due any more
	deliver  bool          // the answers that are due still reach the client
	muted    bool          // the client is gone, and the link is not: the answers are dropped
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
		m := Message{Kind: frame[0], Body: frame[5:]}
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

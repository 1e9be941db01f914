package sqlserver_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/sqlserver"
)

// peer speaks just enough of the server's protocol (MS-TDS) to send what no server would send on demand: errors by their
// number, an answer that breaks off, no answer at all.
type peer struct {
	t        *testing.T
	listen   net.Listener
	wg       sync.WaitGroup
	prelogin reply // instead of the usual one
	login    reply // instead of a welcome

	mu     sync.Mutex // guards what follows
	script func(text string) reply
	texts  []string
	links  []net.Conn
	stops  int  // attentions seen
	deaf   bool // attentions are not answered
}

// reply is what the peer says to a request.
type reply struct {
	tokens  []byte
	silent  bool   // no answer until it is asked to stop
	raw     bool   // the tokens are whole packets; then the peer hangs up
	forever []byte // sent behind them in packets of its own, as long as the other side reads
	hangUp  bool
}

func newPeer(t *testing.T, script func(text string) reply) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &peer{t: t, listen: l, script: script}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// open opens the engine on the peer.
func (p *peer) open(change ...func(*db.Options)) db.Database {
	p.t.Helper()
	opts := optionsFor("sqlserver://sa:" + secret + "@" + p.listen.Addr().String() + "?database=x&encrypt=disable")
	for _, c := range change {
		c(&opts)
	}
	d, err := sqlserver.Open(opts)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, d.Close()) })
	return d
}

func (p *peer) close() {
	_ = p.listen.Close()
	p.mu.Lock()
	links := p.links
	p.mu.Unlock()
	for _, c := range links {
		_ = c.Close()
	}
	p.wg.Wait()
}

// resetLinks ends all connections so that the next write of the other side fails.
func (p *peer) resetLinks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.links {
		if link, ok := c.(*net.TCPConn); ok {
			_ = link.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (p *peer) accept() {
	for {
		c, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.links = append(p.links, c)
		p.mu.Unlock()
		p.wg.Go(func() { p.serve(c) })
	}
}

// Kinds of packets.
const (
	packetBatch     = 1
	packetRPC       = 3
	packetAnswer    = 4
	packetAttention = 6
	packetLogin     = 16
	packetPrelogin  = 18
)

func (p *peer) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		kind, body, err := readMessage(in)
		if err != nil {
			return
		}
		if r := p.answer(kind, body); r.hangUp || r.send(c) != nil {
			return
		}
	}
}

// send writes the reply. Its error ends the link.
func (r reply) send(to io.Writer) error {
	if r.raw {
		_, err := to.Write(r.tokens)
		return errors.Join(err, io.EOF)
	}
	if r.forever == nil {
		if r.tokens == nil {
			return nil
		}
		_, err := to.Write(framed(r.tokens, true))
		return err
	}
	_, err := to.Write(framed(r.tokens, false))
	for chunk := framed(r.forever, false); err == nil; {
		_, err = to.Write(chunk)
	}
	return err
}

func (p *peer) answer(kind byte, body []byte) reply {
	switch kind {
	case packetPrelogin:
		if p.prelogin.tokens != nil {
			return p.prelogin
		}
		return reply{tokens: preloginAnswer()}
	case packetLogin:
		if p.login.tokens != nil {
			return p.login
		}
		return reply{tokens: append(loginAck(), done(0, 0)...)}
	case packetAttention:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stops++
		if p.deaf {
			return reply{}
		}
		return reply{tokens: done(0x20, 0)}
	case packetBatch, packetRPC:
		return p.reply(decodeText(body))
	}
	return reply{hangUp: true}
}

// preloginAnswer is a version, and no encryption.
func preloginAnswer() []byte {
	return []byte{0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, 2}
}

func (p *peer) reply(text string) reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts = append(p.texts, text)
	r := p.script(text)
	if r.tokens == nil && !r.silent && !r.hangUp {
		r = usual(text)
	}
	return r
}

// usual is what a server says when all is well.
func usual(text string) reply {
	switch {
	case strings.Contains(text, "CAST(DB_ID() AS bigint)"):
		return reply{tokens: number(5)}
	case strings.Contains(text, "SELECT CURRENT_TRANSACTION_ID()"):
		return reply{tokens: number(77)}
	case strings.Contains(text, "XACT_STATE()"):
		return reply{tokens: number(1)}
	case strings.Contains(text, "COMMIT TRANSACTION"):
		return reply{tokens: number(0)}
	}
	return reply{tokens: done(0, 0)}
}

// said reports whether the peer was sent such a text.
func (p *peer) said(part string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.texts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func readMessage(in *bufio.Reader) (kind byte, body []byte, err error) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(in, head); err != nil {
			return 0, nil, err
		}
		part := make([]byte, max(binary.BigEndian.Uint16(head[2:]), 8)-8)
		if _, err := io.ReadFull(in, part); err != nil {
			return 0, nil, err
		}
		body = append(body, part...)
		if head[1]&1 != 0 {
			return head[0], body, nil
		}
	}
}

// framed puts tokens into packets, the last of which ends the answer or does not.
func framed(body []byte, complete bool) []byte {
	const most = 4000
	var out []byte
	for first := true; first || len(body) > 0; first = false {
		part := body[:min(len(body), most)]
		body = body[len(part):]
		head := []byte{packetAnswer, 0, 0, 0, 0, 0, 1, 0}
		if complete && len(body) == 0 {
			head[1] = 1
		}
		binary.BigEndian.PutUint16(head[2:], uint16(len(part)+len(head)))
		out = append(append(out, head...), part...)
	}
	return out
}

// decodeText finds the text in a request: everything in it is UTF-16, at even offsets or odd ones.
func decodeText(body []byte) string {
	return decodeFrom(body) + decodeFrom(body[min(1, len(body)):])
}

func decodeFrom(body []byte) string {
	units := make([]uint16, len(body)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(body[2*i:])
	}
	return string(utf16.Decode(units))
}

func wide(text string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func loginAck() []byte {
	body := []byte{1, 0x74, 0, 0, 4, 4}
	body = append(append(body, wide("peer")...), 16, 0, 0, 0)
	return append(binary.LittleEndian.AppendUint16([]byte{0xad}, uint16(len(body))), body...)
}

// done ends a statement: 0 well, 2 with an error, 16 with a count, 32 confirms an attention, 256 the session is over.
func done(status uint16, rows uint64) []byte {
	out := binary.LittleEndian.AppendUint16([]byte{0xfd}, status)
	out = append(out, 0, 0)
	return binary.LittleEndian.AppendUint64(out, rows)
}

// column is the metadata of one column v, with its type as it is on the wire.
func column(kind ...byte) []byte {
	out := []byte{0x81, 1, 0, 0, 0, 0, 0, 1, 0}
	out = append(out, kind...)
	return append(append(out, 1), wide("v")...)
}

func number(n int64) []byte {
	out := append(column(0x26, 8), 0xd1, 8)
	out = binary.LittleEndian.AppendUint64(out, uint64(n))
	return append(out, done(16, 1)...)
}

// failure is an error of the server; more: the session is over.
func failure(n int32, class byte, message string, fatal bool) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(n))
	body = append(body, 1, class)
	body = binary.LittleEndian.AppendUint16(body, uint16(len(utf16.Encode([]rune(message)))))
	body = append(body, wide(message)...)
	body = append(body, 0, 0, 3, 0, 0, 0)
	out := append(binary.LittleEndian.AppendUint16([]byte{0xaa}, uint16(len(body))), body...)
	if fatal {
		return append(out, done(0x102, 0)...)
	}
	return append(out, done(2, 0)...)
}

// more is an answer that goes on behind its last statement.
func more(tokens []byte) []byte {
	tokens[len(tokens)-len(done(0, 0))+1] |= 1
	return tokens
}

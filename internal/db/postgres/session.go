package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

const (
	// maxDirectWrite is what is written without reading meanwhile. A server whose answers are not read stops
	// reading in turn: more than the buffers of a socket hold needs a writer of its own.
	maxDirectWrite = 32 << 10
	// keepBuffer is how much of a send buffer a session keeps between calls.
	keepBuffer = 64 << 10
	// readyTimeout bounds the reading of a clean-up's answer and the ping of an idle session.
	readyTimeout = 2 * time.Second
	// destroyTimeout bounds the end of a session that must stop what it runs. Its place in the pool is free
	// only then, so that cancelled work never adds up to more connections than the pool has.
	destroyTimeout = 5 * time.Second
)

// session is one connection with what the engine knows about it. It belongs to one call at a time.
type session struct {
	pg       *pgconn.PgConn
	net      net.Conn
	in       frames
	poolConn *pgxpool.Conn // the pool's handle while a call has the session

	buf     []byte       // messages that are not sent yet
	writing chan written // a large write under way
	pending int          // clean-ups whose answers are not read yet
	fence   bool         // the server's unnamed statement is the fence
	shared  bool         // the server has fenceEntries under sharedName
	idle    time.Time    // when the session was given back last

	status  byte // of the transaction, from the last ReadyForQuery
	dead    bool // must not be used again
	unclean bool // a job left something in it
	// unconfirmed: a COMMIT since this was set to false is in force here, and no synchronous standby may have it
	unconfirmed bool
	running     bool // the server may still execute something: cancel it
	validate    bool // the server's encoding does not promise UTF-8
	foreign     bool // the session's encoding is not UTF-8 any more
	statement   cache
	encoder     *engine.RowEncoder
	sent        []sent
	unnamed     []unnamedType // columns whose types are not known yet
	chain       bool          // the server has the statement that stands between two reads of a round trip
	handoffs    int           // times that a leader left the session to the next one
	quickest    time.Duration // of the reads of late: about what the way to the server and back takes

	ends       *cleanups // the endings of its transactions
	dialect    *dialect.Dialect
	durability string // synchronous_commit as the session started: the server's, the login's or the database's own

	typeNames map[uint32]string    // types of the database's own, as they are named in results
	ownTypes  map[string]paramType // those that parameters name, as publishers write them

	cut     func() // ends what the session waits for
	cutDone chan struct{}
	stopCut func() bool
}

// written is the end of a large write.
type written struct {
	n   int
	err error
}

// sessionKey is the session's place in a connection's custom data.
const sessionKey = "dbrunner.session"

func newSession(conn *pgx.Conn, named bool, buffers *db.Buffers) *session {
	pg := conn.PgConn()
	s := &session{
		pg: pg, net: pg.Conn(), in: newFrames(pg.Conn()),
		status:    'I',
		validate:  pg.ParameterStatus("server_encoding") != "UTF8",
		statement: newCache(named),
		encoder:   engine.NewRowEncoder(db.RowOptions{}, buffers),
		typeNames: make(map[uint32]string),
		ownTypes:  make(map[string]paramType),
		cutDone:   make(chan struct{}, 1),
		idle:      time.Now(),
		quickest:  time.Second,
	}
	s.cut = func() {
		_ = s.net.SetDeadline(time.Unix(1, 0))
		s.cutDone <- struct{}{}
	}
	pg.CustomData()[sessionKey] = s
	return s
}

func sessionOf(conn *pgx.Conn) *session {
	s, _ := conn.PgConn().CustomData()[sessionKey].(*session)
	return s
}

// watch bounds what follows by the deadline and by the context's end. unwatch must follow.
func (s *session) watch(ctx context.Context, deadline time.Time) {
	_ = s.net.SetDeadline(deadline)
	if ctx.Done() != nil {
		s.stopCut = context.AfterFunc(ctx, s.cut)
	}
}

// unwatch ends watch. Afterwards nothing touches the connection's deadline but the caller.
func (s *session) unwatch() {
	if s.stopCut != nil && !s.stopCut() {
		<-s.cutDone
	}
	s.stopCut = nil
}

// write sends what is in the buffer and reports how much of it went out; for a large buffer, flushed does.
func (s *session) write() (int, error) {
	buf := s.buf
	s.buf = s.buf[:0]
	s.fence = s.fence && !replacesUnnamed(buf)
	if len(buf) <= maxDirectWrite {
		return s.net.Write(buf)
	}
	s.buf = nil
	done := make(chan written, 1)
	s.writing = done
	go func() {
		n, err := s.net.Write(buf)
		done <- written{n, err}
	}()
	return 0, nil
}

// flushed waits for a large write, if one is under way, and returns its end. Who calls it has read the answer to
// it, or has cut the connection.
func (s *session) flushed() *written {
	if s.writing == nil {
		return nil
	}
	w := <-s.writing
	s.writing = nil
	return &w
}

// receive returns the next message that answers something. Its body holds until the next call.
func (s *session) receive() (kind byte, body []byte, err error) {
	for {
		kind, body, err = s.in.next()
		if err != nil {
			return 0, nil, err
		}
		switch kind {
		case msgNotify:
		case msgNotice:
			s.unconfirmed = s.unconfirmed || endsSyncWait(body)
		case msgParameter:
			// A setting that the server reports.
			if value, is := bytes.CutPrefix(body, []byte("client_encoding\x00")); is {
				s.foreign = string(bytes.TrimRight(value, "\x00")) != "UTF8"
			}
		case msgReady:
			if len(body) != 1 {
				return 0, nil, errOutOfOrder
			}
			s.status = body[0]
			return kind, body, nil
		default:
			return kind, body, nil
		}
	}
}

// segmentEnd is the outcome of a segment of ours.
type segmentEnd struct {
	first, last string // its command tags
	counted     bool   // it had a row, which starts with a number
	count       int64
	failed      *pgconn.PgError
}

// readSegment reads a segment to its end: that of several commands, where the ends of several are asked for. An error
// means that the end did not come; after a deadline, reading may go on where it stopped.
func (s *session) readSegment(ends ...*segmentEnd) error {
	for {
		end := ends[0]
		if end.last != "" && len(ends) > 1 {
			ends = ends[1:]
			continue
		}
		kind, body, err := s.receive()
		if err != nil {
			return err
		}
		switch kind {
		case msgRow:
			end.counted, end.count = true, numberOf(body)
		case msgComplete:
			end.last = commandTag(tagOf(body))
			if end.first == "" {
				end.first = end.last
			}
		case msgError:
			e := errorOf(body)
			if end.failed == nil {
				end.failed = e
			}
			if fatal(e) {
				return errEnded
			}
		case msgReady:
			return nil
		}
	}
}

// ready makes the session fit for a call: it reads the answers of clean-ups, and asks for a sign of life after
// a long idle time. false means that the session cannot be used.
func (s *session) ready(ctx context.Context, pingAfter time.Duration) bool {
	ping := time.Since(s.idle) > pingAfter
	if s.pending == 0 && !ping {
		return true
	}
	s.watch(ctx, time.Now().Add(readyTimeout))
	defer s.unwatch()
	if ping {
		s.buf = appendSync(s.buf[:0])
		if _, err := s.write(); err != nil {
			return false
		}
		s.pending++
	}
	return s.drain() == nil && s.status == 'I'
}

// clean sends a clean-up.
func (s *session) clean(by []byte) error {
	s.buf = append(s.buf[:0], by...)
	if _, err := s.write(); err != nil {
		return err
	}
	s.pending++
	return nil
}

// settled reads the answers of clean-ups, and reports whether the session can be used by the next call or attempt.
func (s *session) settled() bool {
	if s.dead {
		return false
	}
	if s.pending > 0 {
		_ = s.net.SetDeadline(time.Now().Add(readyTimeout))
	}
	return s.drain() == nil && s.status == 'I'
}

// drain reads the answers of clean-ups. An error in one of them means that something of the job before may
// still be in the session; another number of prepared statements, that it has prepared or deallocated some: what a name
// stands for is not known any more.
func (s *session) drain() error {
	for s.pending > 0 {
		var end segmentEnd
		if err := s.readSegment(&end); err != nil {
			return err
		}
		s.pending--
		if end.failed != nil {
			s.unclean = true
			return end.failed
		}
		if end.counted && s.statement.named && end.count != s.statement.have {
			s.unclean = true
			return errUnclean
		}
	}
	return nil
}

// errUnclean is a session whose prepared statements are not those that the engine has prepared.
var errUnclean = errors.New("postgres: a job has prepared or deallocated statements")

// markBroken marks the session as not usable any more. running reports that the server may still be at work for it.
func (s *session) markBroken(running bool) {
	s.dead = true
	s.running = s.running || running
}

// abandon is markBroken after an error of the connection: a server that ended the link runs nothing for it any more,
// but a deadline, a giant message or a message out of order leaves it at work.
func (s *session) abandon(err error) {
	s.markBroken(!linkLost(err))
}

// linkLost distinguishes an end of the link from our own refusal to go on with it.
func linkLost(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && !op.Timeout()
}

// destroy ends a dead session: it stops what the server still does for it, waits (bounded) for the server to hang
// up, and gives the place in the pool back.
func (s *session) destroy() {
	defer s.poolConn.Release()
	ctx, cancel := context.WithTimeout(context.Background(), destroyTimeout)
	defer cancel()
	_ = s.net.SetDeadline(time.Unix(1, 0))
	torn := s.flushed()
	if s.running {
		deadline, _ := ctx.Deadline()
		_ = s.net.SetDeadline(deadline)
		_ = s.pg.CancelRequest(ctx)
		if torn == nil || torn.err == nil {
			_, _ = s.net.Write(terminate)
			_, _ = io.Copy(io.Discard, s.net)
		}
	}
	_ = s.net.Close()
	_ = s.pg.Close(ctx)
}

// trim gives a large send buffer back.
func (s *session) trim() {
	if cap(s.buf) > keepBuffer {
		s.buf = nil
	}
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

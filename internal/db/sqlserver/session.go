package sqlserver

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/puddle/v2"
	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/internal/db/engine"
)

const (
	// attentionGrace is how long the server has to confirm that it stopped on request; then the link
	// is cut. An answer to COMMIT that is under way gets as long.
	attentionGrace = 3 * time.Second
	// rollbackGrace is how long a ROLLBACK may take for its session to be kept.
	rollbackGrace = 3 * time.Second
	// maxIdleRows is how large a result may be, bytes, for an idle session to keep the rest of its buffer.
	maxIdleRows = 64 << 10
)

// Why a call was ended early; the causes of its context.
var (
	errTimeLimit = errors.New("sqlserver: the call's time limit")
	errGivenUp   = errors.New("sqlserver: the work was given up")
	errLinkLost  = errors.New("sqlserver: the link was lost")
	errTooMuch   = errors.New("sqlserver: the server sent more than is read of such an answer")
	errNoSession = errors.New("sqlserver: the driver made no session")
)

// session is one connection. One call at a time uses it.
type session struct {
	conn     *mssql.Conn
	net      *sockets
	poolConn *puddle.Resource[*session]
	retireAt time.Time
	idle     time.Time // since when
	dead     bool      // to be closed instead of used again
	database int64     // the server's id of the database that the login starts in
	encoder  engine.RowEncoder
}

// kill ends the session's link immediately.
func (s *session) kill() {
	s.dead = true
	s.net.close()
}

// destroy closes the session.
func (s *session) destroy() {
	s.net.close() // first, so that closing TLS does not wait for a peer that is gone
	_ = s.conn.Close()
}

// limit returns the context of a call's requests. It ends when the caller's does or the time is over, with the reason
// as its cause, and never by a deadline: the driver takes that for a broken connection. Then the server is asked to
// stop (an attention), and if that does not help, the link is cut.
func (s *session) limit(ctx context.Context, timeout time.Duration) (context.Context, func()) {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	call := s.net.begin()
	stops := []func() bool{
		context.AfterFunc(ctx, func() { cancel(errGivenUp) }),
		context.AfterFunc(inner, func() { s.net.cutAfter(call, attentionGrace) }),
	}
	if timeout > 0 {
		stops = append(stops, time.AfterFunc(timeout, func() { cancel(errTimeLimit) }).Stop)
	}
	return inner, func() {
		for _, stop := range stops {
			stop()
		}
		s.net.end(call)
		cancel(nil)
	}
}

// rollback ends what is open; the call's own bounds may be over. A session that cannot do so in time is closed, which rolls back as well.
func (s *session) rollback(ctx context.Context) {
	if s.dead {
		return
	}
	call := s.net.begin()
	defer s.net.end(call)
	s.net.cutAfter(call, rollbackGrace)
	if err := s.run(context.WithoutCancel(ctx), request{text: rollbackSQL}, &table{}); err != nil {
		s.kill()
	}
}

package postgres

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// endless is a link to a server whose rows never end.
type endless struct {
	net.Conn

	row []byte
	at  int
}

func (*endless) Write(b []byte) (int, error) { return len(b), nil }

func (e *endless) Read(b []byte) (int, error) {
	n := copy(b, e.row[e.at:])
	e.at = (e.at + n) % len(e.row)
	return n, nil
}

// TestOwnAnswerIsBounded: rows without end are not all taken into memory, be they large or empty.
func TestOwnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	large, at := beginMessage(nil, 'D')
	large = endMessage(append(append(large, 0, 1, 0, 0x10, 0, 0), make([]byte, 1<<20)...), at)
	link := &endless{row: large}
	s := &session{net: link, in: newFrames(link)}
	_, _, err := s.exchange()
	require.ErrorIs(t, err, errTooLong)
}

// TestAnswersThatAreNotThere: a value that the server has not sent is empty.
func TestAnswersThatAreNotThere(t *testing.T) {
	t.Parallel()
	require.Nil(t, ownRows{}.first(0))
	require.Nil(t, ownRows{{}}.first(0))
	require.Equal(t, "b", string(ownRows{{[]byte("a"), []byte("b")}}.first(1)))
}

// TestMemoryOfAnAnnouncedMessage: a length alone takes no memory.
func TestMemoryOfAnAnnouncedMessage(t *testing.T) {
	t.Parallel()
	announced, sent := net.Pipe()
	in := newFrames(announced)
	in.limit = maxOwnAnswer
	go func() {
		_, _ = sent.Write([]byte{'D', 0x0f, 0, 0, 0})
		_ = sent.Close()
	}()
	_, _, err := in.next()
	require.Error(t, err)
	require.LessOrEqual(t, len(in.buf), frameStep+frameBuffer)
}

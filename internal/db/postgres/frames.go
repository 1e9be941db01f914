package postgres

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

const (
	// frameBuffer is what one read asks the link for. The server sends in pieces of 8 KiB: what has gathered meanwhile
	// comes immediately.
	frameBuffer = 32 << 10
	// frameHead is the kind of a message and its length.
	frameHead = 5
	// frameStep is how much memory a message gets before its content is there.
	frameStep = 1 << 20
)

// errTooLong is a message that is longer than the job's limit on its rows can explain.
var errTooLong = errors.New("postgres: the server's message is above the limit")

// frames takes the server's messages from the link, one after the other. After an error of the link that was a
// deadline, reading may go on where it stopped.
type frames struct {
	from  io.Reader
	limit int // largest body, bytes; 0: none

	buf  []byte
	r, w int // what of buf is read from the link and was not taken yet
}

func newFrames(from io.Reader) frames { return frames{from: from, buf: make([]byte, frameBuffer)} }

// next returns the kind of the next message and its body, which holds until the next call.
func (f *frames) next() (kind byte, body []byte, err error) {
	if err := f.have(frameHead); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(f.buf[f.r+1:])) - 4
	switch {
	case n < 0:
		return 0, nil, errOutOfOrder
	case f.limit > 0 && n > f.limit:
		return 0, nil, errTooLong
	}
	if err := f.have(frameHead + n); err != nil {
		return 0, nil, err
	}
	kind, body = f.buf[f.r], f.buf[f.r+frameHead:f.r+frameHead+n]
	f.r += frameHead + n
	return kind, body, nil
}

// have waits until n bytes are there.
func (f *frames) have(n int) error {
	if f.w-f.r >= n {
		return nil
	}
	// Move what is there to the front of the buffer. One that was made for a large message is given up
	// when it is empty.
	switch {
	case f.r == f.w && len(f.buf) > frameBuffer && n <= frameBuffer:
		f.buf, f.r, f.w = make([]byte, frameBuffer), 0, 0
	case f.r > 0:
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	for f.w-f.r < n {
		if f.w == len(f.buf) { // the content is there that the memory was for
			f.buf = slices.Grow(f.buf, min(n, max(f.w, frameStep)))
			f.buf = f.buf[:cap(f.buf)]
		}
		m, err := f.from.Read(f.buf[f.w:])
		f.w += m
		if err != nil && f.w-f.r < n {
			return err
		}
	}
	return nil
}

// row walks through the values of a DataRow message. The caller gives their number.
type row struct {
	rest  []byte
	count int
}

// rowOf reads the number of values; false if the message is none.
func rowOf(body []byte) (row, bool) {
	if len(body) < 2 {
		return row{}, false
	}
	return row{rest: body[2:], count: int(binary.BigEndian.Uint16(body))}, true
}

// value returns the next value, nil for NULL; false if the message ends before it does.
func (r *row) value() ([]byte, bool) {
	if len(r.rest) < 4 {
		return nil, false
	}
	n := int32(binary.BigEndian.Uint32(r.rest))
	r.rest = r.rest[4:]
	if n < 0 {
		return nil, true
	}
	if int(n) > len(r.rest) {
		return nil, false
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v, true
}

// tagOf is the text of a CommandComplete message.
func tagOf(body []byte) []byte {
	if n := len(body); n > 0 && body[n-1] == 0 {
		return body[:n-1]
	}
	return body
}

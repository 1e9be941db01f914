package postgres

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// noRows is how a COPY is answered that waits for rows; the server repeats it in its error.
const noRows = "dbrunner sends no rows"

// copyFail returns the message that ends such a COPY.
func copyFail() []byte {
	b, at := beginMessage(nil, 'f')
	return endMessage(appendText(b, noRows), at)
}

// waitsForRows are the messages after which the server waits for rows: COPY FROM STDIN, and both ways of a replica.
func waitsForRows(kind byte) bool { return kind == 'G' || kind == 'W' }

// buildFrontend makes the driver's side of a connection, which would wait for a COPY that waits for rows.
func buildFrontend(r io.Reader, w io.Writer) *pgproto3.Frontend {
	return pgproto3.NewFrontend(&copyRefuser{r: r, w: w}, w)
}

// copyRefuser reads what the server sends and answers a COPY that waits for rows.
type copyRefuser struct {
	r      io.Reader
	w      io.Writer
	header []byte // of the message at hand, as far as it was read
	body   int    // bytes of the message that are still to come
}

const headerSize = 5

// Read reads on.
func (c *copyRefuser) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if c.body > 0 {
			skip := min(c.body, len(rest))
			c.body -= skip
			rest = rest[skip:]
			continue
		}
		more := min(headerSize-len(c.header), len(rest))
		c.header = append(c.header, rest[:more]...)
		rest = rest[more:]
		if len(c.header) < headerSize {
			continue
		}
		c.body = int(binary.BigEndian.Uint32(c.header[1:])) - (headerSize - 1)
		if waitsForRows(c.header[0]) {
			_, failed := c.w.Write(copyFail())
			err = errors.Join(err, failed)
		}
		c.header = c.header[:0]
	}
	return n, err
}

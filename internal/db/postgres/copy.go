package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"dbrunner/internal/db/dialect"
)

// foreign finds what psql would do and no server does: its commands, which begin with a backslash, and COPY from the
// program's own input, after which the server waits for rows with its locks held. What comes first is reported: the rows
// behind a COPY are no SQL.
func foreign(d *dialect.Dialect, script string, parts []dialect.Part) string {
	line, what := 0, ""
	for i := range parts {
		if what = copies(&parts[i]); what != "" {
			line = parts[i].Line
			break
		}
	}
	at := backslash(d, script)
	if at < 0 {
		if what == "" {
			return ""
		}
		return fmt.Sprintf("line %d: %s", line, what)
	}
	if n := 1 + strings.Count(script[:at], "\n"); what == "" || n < line {
		name := command(script[at:])
		line, what = n, fmt.Sprintf("%.32s is a command of psql: %s", name, insteadOf(name))
	}
	return fmt.Sprintf("line %d: %s", line, what)
}

const (
	insteadOfCopy = "write the rows as INSERT statements (pg_dump --inserts does), or load them by a job with params_from"
	nobodyReads   = "COPY … TO STDOUT: nobody reads its rows here; remove it"
)

// copies says what is wrong with a COPY between the server and a client; "" for any other statement.
func copies(part *dialect.Part) string {
	if len(part.Words) == 0 || part.Words[0] != "COPY" {
		return ""
	}
	for i := 1; i < len(part.Words); i++ {
		switch part.Words[i-1] + " " + part.Words[i] {
		case "FROM STDIN":
			return "COPY … FROM STDIN: nobody sends its rows here; " + insteadOfCopy
		case "TO STDOUT":
			return nobodyReads
		}
	}
	return ""
}

// backslash is the offset of the first one outside of quotes and comments, where no server knows it; -1 if there is none.
func backslash(d *dialect.Dialect, script string) int {
	lexer := dialect.NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		switch {
		case !ok:
			return -1
		case t.Kind == dialect.TokenOther && script[t.Start] == '\\':
			return t.Start
		}
	}
}

// command is the name of a command of psql, with its backslash.
func command(text string) string {
	end := 1
	for end < len(text) && (text[end] >= 'a' && text[end] <= 'z' || text[end] >= 'A' && text[end] <= 'Z' || text[end] == '_') {
		end++
	}
	if end == 1 { // such as \. and \!
		end = min(2, len(text))
	}
	return strings.ToValidUTF8(text[:end], "")
}

// insteadOf says what to write instead of a command.
func insteadOf(name string) string {
	switch name {
	case `\restrict`, `\unrestrict`:
		return "pg_dump has written it; remove the line"
	case `\connect`, `\c`:
		return "migrations run in the database of the configuration; remove the line"
	case `\i`, `\ir`, `\include`, `\include_relative`:
		return "make the other file a migration of its own"
	case `\set`, `\unset`, `\gset`, `\getenv`, `\prompt`:
		return "write the value where the variable stands, and remove it"
	case `\if`, `\elif`, `\else`, `\endif`:
		return "write a condition as a DO block"
	case `\gexec`:
		return "write a DO block with EXECUTE"
	case `\copy`, `\.`:
		return insteadOfCopy
	case `\g`, `\gx`, `\;`:
		return "end the statement with a semicolon"
	}
	return "remove it"
}

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

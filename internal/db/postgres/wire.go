package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// The messages of the protocol that the engine sends. They are appended to one buffer and written together:
// what is fixed is copied, and nothing is allocated.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html.

func beginMessage(b []byte, kind byte) ([]byte, int) {
	b = append(b, kind, 0, 0, 0, 0)
	return b, len(b) - 4
}

// endMessage fills in the length of the message whose length word is at the given place.
func endMessage(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func appendText(b []byte, s string) []byte {
	return append(append(b, s...), 0)
}

func appendParse(b []byte, name, sql string, oids []uint32) []byte {
	b, at := beginMessage(b, 'P')
	b = appendText(appendText(b, name), sql)
	b = binary.BigEndian.AppendUint16(b, uint16(len(oids)))
	for _, oid := range oids {
		b = binary.BigEndian.AppendUint32(b, oid)
	}
	return endMessage(b, at)
}

// appendDescribe asks for the types of a statement's parameters and for its columns.
func appendDescribe(b []byte, name string) []byte {
	b, at := beginMessage(b, 'D')
	return endMessage(appendText(append(b, 'S'), name), at)
}

// oidsOf reads a ParameterDescription.
func oidsOf(body []byte) []uint32 {
	if len(body) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(body))
	oids := make([]uint32, 0, n)
	for rest := body[2:]; len(rest) >= 4 && len(oids) < n; rest = rest[4:] {
		oids = append(oids, binary.BigEndian.Uint32(rest))
	}
	return oids
}

// appendExecute runs the unnamed portal to its end.
func appendExecute(b []byte) []byte {
	return append(b, 'E', 0, 0, 0, 9, 0, 0, 0, 0, 0)
}

func appendSync(b []byte) []byte {
	return append(b, 'S', 0, 0, 0, 4)
}

// appendClose closes a named prepared statement.
func appendClose(b []byte, name string) []byte {
	b, at := beginMessage(b, 'C')
	b = appendText(append(b, 'S'), name)
	return endMessage(b, at)
}

// appendSimple is a simple query, which is a segment of its own. It is only for SQL of ours without any value.
func appendSimple(b []byte, sql string) []byte {
	b, at := beginMessage(b, 'Q')
	return endMessage(appendText(b, sql), at)
}

// ownName is the name of the command of ours that runs, in a session of ours: its unnamed statement is the fence.
const ownName = "dbrunner_own"

// appendCommand parses and runs a statement of ours that has no parameters. A job that takes the name away or gives it to
// another statement changes nothing: it is closed and parsed again before each use.
func appendCommand(b []byte, name, sql string) []byte {
	if name != "" {
		b = appendClose(b, name)
	}
	return appendRun(appendParse(b, name, sql, nil), name)
}

// replacesUnnamed reports whether messages replace the server's unnamed statement.
func replacesUnnamed(messages []byte) bool {
	for len(messages) > frameHead {
		if messages[0] == 'Q' || messages[0] == 'P' && messages[frameHead] == 0 {
			return true
		}
		messages = messages[1+binary.BigEndian.Uint32(messages[1:]):]
	}
	return false
}

// appendRun runs a statement of ours that has no parameters.
func appendRun(b []byte, name string) []byte {
	b, at := beginMessage(b, 'B')
	b = append(appendText(append(b, 0), name), 0, 0, 0, 0, 0, 0)
	return appendExecute(endMessage(b, at))
}

// appendBindHead starts the binding of n text arguments to the unnamed portal.
func appendBindHead(b []byte, name string, n int) ([]byte, int) {
	b, at := beginMessage(b, 'B')
	b = append(b, 0)
	b = appendText(b, name)
	b = append(b, 0, 0) // all arguments are text
	return binary.BigEndian.AppendUint16(b, uint16(n)), at
}

// endBind ends a binding whose arguments are all there; results come as text.
func endBind(b []byte, at int) []byte {
	return endMessage(append(b, 0, 0), at)
}

func appendNull(b []byte) []byte {
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

func appendTextArg(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func endArg(b []byte, begin int) []byte {
	binary.BigEndian.PutUint32(b[begin-4:], uint32(len(b)-begin))
	return b
}

// terminate is the message that ends a session.
var terminate = []byte{'X', 0, 0, 0, 4}

// The messages of the server that the engine looks at.
// See https://www.postgresql.org/docs/current/protocol-message-formats.html.
const (
	msgParsed      = '1' // ParseComplete
	msgBound       = '2' // BindComplete
	msgClosed      = '3' // CloseComplete
	msgComplete    = 'C' // CommandComplete
	msgEmpty       = 'I' // EmptyQueryResponse
	msgRow         = 'D' // DataRow
	msgDescription = 'T' // RowDescription
	msgParameters  = 't' // ParameterDescription
	msgNoData      = 'n' // NoData
	msgError       = 'E' // ErrorResponse
	msgReady       = 'Z' // ReadyForQuery
	msgNotice      = 'N' // NoticeResponse
	msgParameter   = 'S' // ParameterStatus
	msgNotify      = 'A' // NotificationResponse
)

// endsSyncWait reports a NoticeResponse by which the server reports that it has committed but not waited for its synchronous
// standbys to the end: a time limit, a cancel request or an administrator ended the wait. The text is translated, the
// server's own function that says it is not.
func endsSyncWait(body []byte) bool {
	if !bytes.Contains(body, []byte("RSyncRepWaitForLSN\x00")) {
		return false
	}
	var msg pgproto3.NoticeResponse
	return msg.Decode(body) == nil && msg.SeverityUnlocalized == "WARNING" && msg.Routine == "SyncRepWaitForLSN"
}

// errorOf reads an ErrorResponse.
func errorOf(body []byte) *pgconn.PgError {
	var msg pgproto3.ErrorResponse
	if err := msg.Decode(body); err != nil {
		return &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "XX000"}
	}
	return pgconn.ErrorResponseToPgError(&msg)
}

// numberOf is the number in the first column of a row; 0 for NULL, -1 if there is none.
func numberOf(body []byte) (n int64) {
	from, _ := rowOf(body)
	text, ok := from.value()
	if !ok {
		return -1
	}
	for _, c := range text {
		if c < '0' || c > '9' || n > 1<<50 {
			return -1
		}
		n = 10*n + int64(c-'0')
	}
	return n
}

// commandTag returns a tag without allocating for the common ones.
func commandTag(tag []byte) string {
	switch string(tag) {
	case "SELECT 1":
		return "SELECT 1"
	case "SELECT 0":
		return "SELECT 0"
	case "INSERT 0 1":
		return "INSERT 0 1"
	case "UPDATE 1":
		return "UPDATE 1"
	case "BEGIN":
		return "BEGIN"
	case "COMMIT":
		return "COMMIT"
	case "ROLLBACK":
		return "ROLLBACK"
	}
	return string(tag)
}

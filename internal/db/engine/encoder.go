package engine

import (
	"fmt"
	"strconv"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// RowEncoder writes the rows of one call as JSON while they come from the wire: no map and no allocation for
// a row or a value, the keys of objects encoded once for each statement. The caps on rows and bytes hold over
// all statements of the call. Rows that have no room in the call's answer go to its Overflow, one by one. It is for one
// goroutine; the zero value is not usable.
//
//	enc.Start(columns)
//	for each row {
//		dst := enc.BeginRow()
//		for each value {
//			dst = enc.Next(dst)
//			dst = append(dst, … one JSON value …)
//		}
//		err = enc.EndRow(dst)
//	}
//	set, err := enc.Finish()
type RowEncoder struct {
	opts    db.RowOptions
	buffers *db.Buffers // of results too large to share memory

	columns []contract.Column
	keys    []byte // of all columns of the statement, each as `,"name":` (the first without the comma)
	ends    []int  // where each key ends in keys
	next    int    // column that is encoded next

	buf   []byte // the rows of the statement so far; what stands before it in memory is other statements'
	rows  int64  // of the statement
	total int64  // rows of the call, the statement's included
	done  int64  // bytes of the call's statements before this one that stay in memory, and of all columns
	sets  int    // that were started in the call
	out   int64  // bytes of the call that went to files
	file  db.RowFile
	form  db.RowFormat // of the rows that are encoded now
	large int          // length of the largest row so far: how much room a row needs
	room  int          // that the next statement's rows are expected to need

	digest rowDigest // of the statement's rows, where it is asked for
}

const (
	// minBuffer is the least room that a statement's rows begin with, bytes.
	minBuffer = 512
	// maxShared is the largest buffer whose rest goes to the next statement, bytes: as long as one of them is
	// in use, all of it is held in memory.
	maxShared = db.MinPooled
)

// NewRowEncoder returns an encoder for one call, whose large results take their memory from buffers (nil: from the
// heap): see ResultSet.Free.
func NewRowEncoder(opts db.RowOptions, buffers *db.Buffers) *RowEncoder {
	e := &RowEncoder{buffers: buffers}
	e.Reset(opts)
	return e
}

// Reset makes the encoder ready for another call. Results handed out before stay valid: their memory is
// never written again.
func (e *RowEncoder) Reset(opts db.RowOptions) {
	*e = RowEncoder{opts: opts, buffers: e.buffers, keys: e.keys[:0], ends: e.ends[:0], buf: rest(e.buf)}
}

// Expect reports how many bytes the rows of the next statement may need: those of its last execution, say. Room for them
// is made in one step.
func (e *RowEncoder) Expect(size int) { e.room = size }

// Start starts the rows of a statement. The columns are kept in the ResultSet and must not change any more.
// Columns of one name are an error with code duplicate_column where rows are objects: one of the two values
// would be lost.
func (e *RowEncoder) Start(columns []contract.Column) error {
	e.columns, e.rows, e.next = columns, 0, 0
	e.file, e.form = nil, e.opts.Format
	e.sets++
	e.digest.start()
	if e.columns == nil {
		e.columns = []contract.Column{}
	}
	e.keys, e.ends = e.keys[:0], e.ends[:0]
	e.buf = rest(e.buf)
	if e.room > cap(e.buf) || cap(e.buf) < minBuffer/4 {
		e.buf = e.buffers.Get(max(minBuffer, e.room))
	}
	e.room = 0
	e.buf = append(e.buf, '[')
	e.done += columnsSize(columns)
	if e.opts.Overflow != nil && e.done > e.opts.InlineBytes {
		return db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge,
			"the columns alone take %d bytes, above the limit of %d bytes", e.done, e.opts.InlineBytes)
	}
	err := e.check()
	if err == nil && e.opts.AlwaysOverflow && e.opts.Overflow != nil {
		err = e.open()
	}
	if err != nil || e.form == db.Arrays {
		return err
	}
	if name, twice := duplicate(columns); twice {
		return db.Errorf(db.ClassPermanent, contract.CodeDuplicateColumn,
			"two columns are named %s: rename one with AS, or ask for row_format arrays",
			strconv.Quote(name))
	}
	for i := range e.columns {
		if i > 0 {
			e.keys = append(e.keys, ',')
		}
		e.keys = append(jsontext.AppendString(e.keys, e.columns[i].Name), ':')
		e.ends = append(e.ends, len(e.keys))
	}
	return nil
}

// open sends the statement's rows to a file from now on.
func (e *RowEncoder) open() (err error) {
	if e.file, err = e.opts.Overflow.Open(e.sets-1, e.columns); err != nil {
		return err
	}
	if e.file.AsArrays() {
		e.form = db.Arrays
	}
	return nil
}

// columnsRoom is what the columns of a set that is still to come may need in the answer, bytes.
const columnsRoom = 2 << 10

// rowLength is the length of the row that a text starts with: a JSON array or object as the encoder writes it.
func rowLength(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// BeginRow starts a row and returns the buffer that Next and the values are appended to.
func (e *RowEncoder) BeginRow() []byte {
	e.next = 0
	if e.file != nil {
		e.buf = e.buf[:0]
	}
	dst := e.buf
	if free := cap(dst) - len(dst); free < e.large+2 {
		// Doubling: append alone grows large buffers by a quarter and would copy a large result five times.
		dst = append(e.buffers.Get(len(dst)+max(len(dst), e.large+2)), dst...)
		e.buffers.Put(e.buf)
		e.buf = dst
	}
	if e.rows > 0 && e.file == nil {
		dst = append(dst, ',')
	}
	if e.form == db.Arrays {
		return append(dst, '[')
	}
	return append(dst, '{')
}

// Next starts the next value of the row: what the caller appends to the returned buffer is this value, one
// JSON value in full.
func (e *RowEncoder) Next(dst []byte) []byte {
	i := e.next
	e.next++
	if e.form == db.Arrays {
		if i > 0 {
			dst = append(dst, ',')
		}
		return dst
	}
	begin := 0
	if i > 0 {
		begin = e.ends[i-1]
	}
	dst = append(dst, e.keys[begin:e.ends[i]]...)
	if e.opts.Digest {
		e.digest.value(len(dst))
	}
	return dst
}

// EndRow takes the buffer back with the row's values. Above a cap it returns an error with code
// result_too_large; nothing may be encoded after it.
func (e *RowEncoder) EndRow(dst []byte) error {
	if e.next != len(e.columns) {
		return fmt.Errorf("row encoder: %d values for %d columns", e.next, len(e.columns))
	}
	if e.form == db.Arrays {
		dst = append(dst, ']')
	} else {
		dst = append(dst, '}')
	}
	e.large = max(e.large, len(dst)-len(e.buf))
	if e.opts.Digest {
		e.digest.row(e.rowOf(dst), e)
	}
	e.rows++
	e.total++
	if e.opts.Keep > 0 && e.rows > e.opts.Keep {
		e.buf = dst[:len(e.buf)]
		return e.check()
	}
	e.buf = dst
	if e.opts.Overflow == nil {
		return e.checkCaps(e.Size())
	}
	// The call's rows may go to files.
	if e.file != nil {
		e.out += int64(len(e.buf))
		if err := e.checkCaps(e.done + e.out); err != nil {
			return err
		}
		return e.file.Row(e.buf)
	}
	// The room that rows in memory leave for the columns of other sets.
	if err := e.check(); err != nil || e.done+int64(len(e.buf))+min(int64(max(e.opts.Sets-e.sets, 0))*columnsRoom, e.opts.InlineBytes/2) <= e.opts.InlineBytes {
		return err
	}
	// The rows have no room in memory any more.
	if err := e.open(); err != nil {
		return err
	}
	rows := e.buf
	e.buf = e.buffers.Get(max(minBuffer, 2*e.large))
	for rest := rows[1:]; len(rest) > 0; {
		n := rowLength(rest)
		if err := e.file.Row(rest[:n]); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) > 0 {
			rest = rest[1:] // the comma
		}
	}
	e.out += int64(len(rows))
	e.buffers.Put(rows)
	return nil
}

func (e *RowEncoder) check() error { return e.checkCaps(e.Size()) }

func (e *RowEncoder) checkCaps(size int64) error {
	if limit := e.opts.MaxRows; limit > 0 && e.total > limit {
		return db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge, "more than %d rows, which is the limit of this job", limit)
	}
	if limit := e.opts.MaxBytes; limit > 0 && size > limit {
		return db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge,
			"the columns and the first %d rows take %d bytes, above the limit of %d bytes", e.total, size, limit)
	}
	return nil
}

// Rows is the number of rows of the call so far.
func (e *RowEncoder) Rows() int64 { return e.total }

// Size is the number of bytes that the columns and the encoded rows of the call take so far, wherever they are; of the
// columns, at most.
func (e *RowEncoder) Size() int64 {
	if e.file != nil {
		return e.done + e.out
	}
	return e.done + e.out + int64(len(e.buf))
}

// Finish ends the rows of a statement. RowsAffected is set to their number; Command is left to the engine. An error is
// that of the file that rows went to.
func (e *RowEncoder) Finish() (db.ResultSet, error) {
	if e.file != nil {
		file := e.file
		e.file, e.buf = nil, e.buf[:0]
		object, err := file.Close()
		if err != nil {
			return db.ResultSet{}, err
		}
		set := db.ResultSet{Columns: e.columns, Object: object, RowCount: e.rows, RowsAffected: e.rows, Digest: e.digestOf()}
		e.columns, e.rows = nil, 0
		return set, nil
	}
	e.buf = append(e.buf, ']')
	n := len(e.buf)
	set := db.ResultSet{Columns: e.columns, Rows: e.buf[:n:n], RowCount: e.rows, RowsAffected: e.rows, Digest: e.digestOf()}
	if e.opts.Keep > 0 {
		set.Omitted = max(0, e.rows-e.opts.Keep)
	}
	if cap(e.buf) > maxShared {
		set.Rows = e.buf
		set.FreeTo(e.buffers)
	}
	e.done += int64(n)
	e.buf = rest(e.buf)
	e.columns, e.rows = nil, 0
	return set, nil
}

// rest is what is free behind a buffer that is not written any more.
func rest(buf []byte) []byte {
	if cap(buf) > maxShared {
		return nil
	}
	return buf[len(buf):]
}

// columnsSize is what the description of the columns takes at most in a result: each byte of a name may need six.
func columnsSize(columns []contract.Column) int64 {
	const keys = 24 // {"name":"","type":""},
	var n int64
	for i := range columns {
		n += int64(6*len(columns[i].Name) + len(columns[i].Type) + keys)
	}
	return n
}

// duplicate finds a column name that is there twice.
func duplicate(columns []contract.Column) (string, bool) {
	const few = 24 // up to here comparing each pair is faster than filling a map
	if len(columns) > few {
		seen := make(map[string]struct{}, len(columns))
		for i := range columns {
			name := columns[i].Name
			if _, twice := seen[name]; twice {
				return name, true
			}
			seen[name] = struct{}{}
		}
		return "", false
	}
	for i := range columns {
		for j := range i {
			if columns[i].Name == columns[j].Name {
				return columns[i].Name, true
			}
		}
	}
	return "", false
}

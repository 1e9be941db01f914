package jobs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"dbrunner/internal/db"
	"dbrunner/internal/db/rowfile"
	"dbrunner/internal/jsontext"
)

// Inputs reads parameters that publishers keep outside of their jobs.
type Inputs interface {
	// Ready waits until objects can be read, as far as is known.
	Ready(ctx context.Context) error
	// Open begins to read an object. ErrNoInput: there is none. At its end the reader has verified its content against the
	// object's own digest, or fails.
	Open(ctx context.Context, name string) (Input, error)
}

// Input is an object that is read. Its errors other than io.EOF and ErrInputDamaged mean that the store does not answer.
type Input interface {
	io.ReadCloser

	// Digest is the content's, as the object's description has it.
	Digest() string
}

var (
	// ErrNoInput says that there is no such object.
	ErrNoInput = errors.New("there is no such object")
	// ErrInputDamaged says that an object's content does not fit its digest.
	ErrInputDamaged = errors.New("the object's content does not fit its digest")
)

// maxLine bounds a row of parameters outside of a job, bytes.
const maxLine = 1 << 20

// inputName is what an object with parameters may be called: one word that no program takes for a path.
var inputName = regexp.MustCompile(`^[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}$`)

// Where the keys of a reference to parameters are in their list.
const (
	inputKeyName = iota
	inputKeyDigest
	inputKeyCompression
)

var inputKeys = []string{inputKeyName: "name", inputKeyDigest: "digest", inputKeyCompression: "compression"}

const digestOpening = "SHA-256="

// batch reads the list of parameters that a statement runs for; s has its text and nothing else yet.
func (r *reader) batch(owner, at int, s *statement) {
	if r.Kind(at) != jsontext.Array || r.Len(at) == 0 {
		r.reject(at, CodeInvalidValue, "must be a list with at least one list or object of parameters"+r.hintNull(at))
		return
	}
	rows := &inlineRows{args: make([][]db.Value, 0, r.Len(at))}
	s.rows = make([]db.Params, 0, r.Len(at))
	before := r.faulty()
	for i, n := at+1, 0; i < r.After(at); i, n = r.After(i), n+1 {
		params, ok := r.params(i)
		if !ok {
			continue
		}
		compiled, faults := db.Compile(r.dialect, db.Statement{SQL: s.source.SQL, Params: params})
		for _, f := range faults {
			r.batchFault(owner, n, f)
		}
		if r.faulty() > before {
			if hasTextFault(faults) {
				return // told once
			}
			continue
		}
		s.rows, rows.args = append(s.rows, params), append(rows.args, compiled.Args)
		if s.compiled == nil {
			s.compiled = &db.Compiled{SQL: compiled.SQL, Batch: rows, Origin: compiled.Origin}
		}
		if compiled.SQL != s.compiled.SQL {
			r.reject(i, CodeParameterNotTyped, "all elements of a batch are lists, or all are objects")
		}
	}
}

func hasTextFault(faults []db.Fault) bool {
	for _, f := range faults {
		if ofText(f) {
			return true
		}
	}
	return false
}

// batchFault notes a fault of one element; a path into params is one into that element.
func (r *reader) batchFault(owner, n int, f db.Fault) {
	path := f.Path
	if rest, ok := strings.CutPrefix(path, "params"); ok {
		path = "batch[" + strconv.Itoa(n) + "]" + rest
	}
	r.rejectBelow(owner, path, f.Code, f.Message)
}

// inlineRows are the rows of a batch that the job has with it.
type inlineRows struct{ args [][]db.Value }

func (b *inlineRows) Open(context.Context) (db.BatchRows, error) { return &openInline{b, 0}, nil }

type openInline struct {
	*inlineRows

	next int
}

func (o *openInline) Next() ([]db.Value, error) {
	if o.next == len(o.args) {
		return nil, io.EOF
	}
	o.next++
	return o.args[o.next-1], nil
}

func (*openInline) Close() error { return nil }

// inputRef names the parameters of a batch that are outside of the job.
type inputRef struct{ name, digest, compression string }

// paramsFrom reads a reference to parameters outside of the job.
func (r *reader) paramsFrom(owner, at int, s *statement) {
	if !r.isObject(at, `{"name": "…", "digest": "SHA-256=…"}`) {
		return
	}
	var found [3]int
	before := r.faulty()
	r.members(at, inputKeys, found[:])
	ref := &inputRef{compression: defaultCompression}
	ref.name = r.requiredText(at, found[inputKeyName], "name", func(text string) bool {
		return inputName.MatchString(text) && !strings.Contains(text, "..")
	}, "must be the name of an object: 1 to 200 of A-Z a-z 0-9 _ = - and ., not beginning with a dot and without ..")
	ref.digest = canonicalDigest(r.requiredText(at, found[inputKeyDigest], "digest",
		func(text string) bool { return canonicalDigest(text) != "" },
		`must be the object's SHA-256 digest: "SHA-256=" and 44 characters of base64, as the object store writes it, `+
			`or 64 hexadecimal digits, as nats object info and sha256sum print it`))
	if c := found[inputKeyCompression]; c != 0 {
		if i, ok := r.isOneOf(c, RowCompressions()...); ok {
			ref.compression = RowCompressions()[i]
		}
	}
	text, faults := db.CompileText(r.dialect, s.source.SQL)
	for _, f := range faults {
		r.rejectBelow(owner, f.Path, f.Code, f.Message)
	}
	if r.faulty() > before {
		return
	}
	s.from = ref
	s.compiled = &db.Compiled{SQL: text, Origin: db.OriginOf(r.dialect, s.source.SQL), Batch: &inputRows{dialect: r.dialect, sql: s.source.SQL, text: text, ref: ref, inputs: r.inputs}}
}

func (r *reader) requiredText(owner, at int, key string, valid func(string) bool, what string) string {
	if at == 0 {
		r.rejectBelow(owner, key, CodeMissingKey, "is required: "+what)
		return ""
	}
	if r.Kind(at) == jsontext.String && valid(r.Str(at)) {
		return r.Str(at)
	}
	r.reject(at, CodeInvalidValue, what+r.hintNull(at))
	return ""
}

// canonicalDigest returns a SHA-256 digest as the object store writes it, or "" if the text is none. It takes the sum in
// hexadecimal digits too, alone or after the name of the algorithm, as the nats command, sha256sum and others print it.
func canonicalDigest(text string) string {
	const name = len("SHA-256")
	sum := text
	switch {
	case len(text) > name && strings.EqualFold(text[:name], "SHA-256") && strings.ContainsRune("=: ", rune(text[name])):
		sum = strings.TrimLeft(text[name+1:], " ")
	case len(text) > name && strings.EqualFold(text[:name], "sha256:"):
		sum = text[name:]
	case len(text) != hex.EncodedLen(sha256.Size):
		return "" // base64 alone is not what anything prints
	}
	decoded, err := hex.DecodeString(sum)
	if err != nil {
		decoded, err = base64.URLEncoding.Strict().DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(sum))
	}
	if err != nil || len(decoded) != sha256.Size {
		return ""
	}
	return digestOpening + base64.URLEncoding.EncodeToString(decoded)
}

// hashBatch appends the canonical encoding of what a statement runs for.
func (s *statement) hashBatch(dst []byte) []byte {
	if s.from != nil {
		dst = appendSized(append(dst, 'f'), s.from.name)
		return appendSized(appendSized(dst, s.from.digest), s.from.compression)
	}
	dst = binary.AppendUvarint(append(dst, 'b'), uint64(len(s.rows)))
	for i := range s.rows {
		dst = hashParams(dst, &s.rows[i])
	}
	return dst
}

// inputRows are the rows of a batch outside of the job.
type inputRows struct {
	dialect *db.Dialect
	sql     string // as the publisher wrote it
	text    string // as the database gets it
	ref     *inputRef
	inputs  Inputs // nil: none are read here
}

// Open begins to read the object; see db.Batch. The object is compared with the job's digest before anything of it is used,
// and its content with its own at the end.
func (b *inputRows) Open(ctx context.Context) (db.BatchRows, error) {
	if b.inputs == nil {
		return nil, db.Errorf(db.ClassPermanent, CodeParamsNotFound, "this runner reads no parameters from outside of jobs")
	}
	in, err := b.inputs.Open(ctx, b.ref.name)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	if in.Digest() != b.ref.digest {
		_ = in.Close() // nothing was read
		return nil, db.Errorf(db.ClassPermanent, CodeParamsDigest, "the object %s has another digest than the job names", b.ref.name)
	}
	return b.decompress(ctx, in)
}

func (b *inputRows) decompress(ctx context.Context, in Input) (db.BatchRows, error) {
	o := &openInput{of: b, in: &source{Input: in}, fail: func(err error) error { return b.failure(ctx, err) }}
	var err error
	if o.plain, err = rowfile.NewReader(b.ref.compression, o.in); err != nil {
		err = o.unreadable(err)
		_ = in.Close() // nothing more is read
		return nil, err
	}
	o.lines = bufio.NewReaderSize(o.plain, 64<<10)
	return o, nil
}

// source remembers why an input could not be read on: a decompression has errors of its own.
type source struct {
	Input

	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Input.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// failure says what it means that an object cannot be read.
func (b *inputRows) failure(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return db.Errorf(db.ClassTimeout, db.CodeTimeout, "the job's time limit is over while its parameters were read; it is rolled back").
			Because(context.DeadlineExceeded)
	case ctx.Err() != nil:
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the work was given up while its parameters were read; it is rolled back").
			Because(context.Cause(ctx))
	case errors.Is(err, ErrNoInput):
		return db.Errorf(db.ClassPermanent, CodeParamsNotFound, "there is no object %s with parameters, or it is not kept any more", b.ref.name).
			Because(err)
	case errors.Is(err, ErrInputDamaged):
		return db.Errorf(db.ClassPermanent, CodeParamsDigest, "the content of object %s does not fit its digest", b.ref.name).Because(err)
	default:
		return db.Errorf(db.ClassTransient, CodeParamsUnavailable, "the parameters in object %s could not be read", b.ref.name).Because(err)
	}
}

// openInput reads a row from each line.
type openInput struct {
	of    *inputRows
	in    *source
	plain io.ReadCloser // decompressed
	lines *bufio.Reader
	fail  func(error) error
	tape  reader
	line  int64
}

func (o *openInput) Next() ([]db.Value, error) {
	for {
		text, err := o.lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			text, err = o.longLine(text)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, o.unreadable(err)
		}
		o.line++
		if row := bytes.TrimSpace(text); len(row) > 0 {
			return o.row(row)
		}
		if err != nil {
			return nil, o.rest()
		}
	}
}

// longLine reads on where a line has no room in the buffer.
func (o *openInput) longLine(begin []byte) ([]byte, error) {
	long := append([]byte(nil), begin...)
	for {
		text, err := o.lines.ReadSlice('\n')
		long = append(long, text...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return long, err
		}
		if len(long) > maxLine {
			return nil, o.refused("is longer than %d bytes", maxLine)
		}
	}
}

// rest reads what is behind a compressed stream, so that the whole object was verified.
func (o *openInput) rest() error {
	n, err := io.Copy(io.Discard, o.in)
	switch {
	case err != nil:
		return o.unreadable(err)
	case n > 0:
		return o.refused("something follows the compressed content")
	}
	return io.EOF
}

func (o *openInput) row(text []byte) ([]db.Value, error) {
	r := &o.tape
	r.reset()
	r.dialect = o.of.dialect
	if fault := r.Read(text, maxDepth, maxValues); fault != nil {
		return nil, o.refused("is no JSON: %s", fault.Message)
	}
	params, ok := r.params(0)
	if !ok || r.faulty() > 0 {
		return nil, o.refused("%s", r.takeFaults()[0].Message)
	}
	compiled, faults := db.Compile(o.of.dialect, db.Statement{SQL: o.of.sql, Params: params})
	switch {
	case len(faults) > 0:
		return nil, o.refused("%s: %s", faults[0].Path, faults[0].Message)
	case o.of.text != compiled.SQL:
		return nil, o.refused("is a list although the text has :names, or an object although it has none")
	}
	return compiled.Args, nil
}

func (o *openInput) refused(format string, args ...any) error {
	return db.Errorf(db.ClassPermanent, CodeParamsInvalid, "object %s, line %d: %s", o.of.ref.name, o.line, fmt.Sprintf(format, args...))
}

// unreadable tells a store that does not answer from content that cannot be decompressed.
func (o *openInput) unreadable(err error) error {
	if _, ok := errors.AsType[*db.Error](err); ok {
		return err
	}
	if o.in.err == nil {
		return o.refused("the content cannot be decompressed as %s", o.of.ref.compression)
	}
	return o.fail(o.in.err)
}

func (o *openInput) Close() error { return errors.Join(o.plain.Close(), o.in.Close()) }

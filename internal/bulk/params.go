package bulk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/rowfile"
)

// Inputs reads parameters that publishers keep outside of their jobs.
type Inputs interface {
	// Ready waits until objects can be read, as far as is known.
	Ready(ctx context.Context) error
	// Open starts to read an object. ErrNoInput: there is none. At its end the reader has verified its content against the
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
	// ErrNoInput is returned when there is no such object.
	ErrNoInput = errors.New("there is no such object")
	// ErrInputDamaged is returned when an object's content does not fit its digest.
	ErrInputDamaged = errors.New("the object's content does not match its digest")
)

// maxLine bounds a row of parameters outside of a job, bytes.
const maxLine = 1 << 20

// Parser makes the arguments of one row from a line of JSON; problem describes what is wrong with it, without its values.
type Parser func(line []byte) (args []dialect.Value, problem string)

// Params are the parameters of a batch that are in an object, a row per line. It is a dialect.Batch.
type Params struct {
	Inputs      Inputs // nil: none are read here
	Name        string
	Digest      string // of the object, as the object store writes it
	Compression string
	NewParser   func() Parser // for one reading of the object
}

// Open starts to read the object; see dialect.Batch. The object is compared with the job's digest before anything of it is used,
// and its content with its own at the end.
func (b *Params) Open(ctx context.Context) (dialect.BatchRows, error) {
	if b.Inputs == nil {
		return nil, db.Errorf(db.ClassPermanent, contract.CodeParamsNotFound, "this runner does not read parameters from objects")
	}
	in, err := b.Inputs.Open(ctx, b.Name)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	if in.Digest() != b.Digest {
		_ = in.Close() // nothing was read
		return nil, db.Errorf(db.ClassPermanent, contract.CodeParamsDigest, "the digest of object %s is not the one in the job", b.Name)
	}
	return b.decompress(ctx, in)
}

func (b *Params) decompress(ctx context.Context, in Input) (dialect.BatchRows, error) {
	o := &openInput{of: b, parse: b.NewParser(), in: &source{Input: in}, fail: func(err error) error { return b.failure(ctx, err) }}
	var err error
	if o.plain, err = rowfile.NewReader(b.Compression, o.in); err != nil {
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

// failure returns what it means that an object cannot be read.
func (b *Params) failure(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return db.Errorf(db.ClassTimeout, contract.CodeTimeout, "the job reached its time limit while reading its parameters; it is rolled back").
			Because(context.DeadlineExceeded)
	case ctx.Err() != nil:
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped while reading its parameters; it is rolled back").
			Because(context.Cause(ctx))
	case errors.Is(err, ErrNoInput):
		return db.Errorf(db.ClassPermanent, contract.CodeParamsNotFound, "object %s with parameters does not exist; it may have expired", b.Name).
			Because(err)
	case errors.Is(err, ErrInputDamaged):
		return db.Errorf(db.ClassPermanent, contract.CodeParamsDigest, "the content of object %s does not match its digest", b.Name).Because(err)
	default:
		return db.Errorf(db.ClassTransient, contract.CodeParamsUnavailable, "the parameters in object %s could not be read", b.Name).Because(err)
	}
}

// openInput reads a row from each line.
type openInput struct {
	of    *Params
	in    *source
	plain io.ReadCloser // decompressed
	lines *bufio.Reader
	fail  func(error) error
	parse Parser
	line  int64
}

func (o *openInput) Next() ([]dialect.Value, error) {
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

func (o *openInput) row(text []byte) ([]dialect.Value, error) {
	args, problem := o.parse(text)
	if problem != "" {
		return nil, o.refused("%s", problem)
	}
	return args, nil
}

func (o *openInput) refused(format string, args ...any) error {
	return db.Errorf(db.ClassPermanent, contract.CodeParamsInvalid, "object %s, line %d: %s", o.of.Name, o.line, fmt.Sprintf(format, args...))
}

// unreadable distinguishes a store that does not answer from content that cannot be decompressed.
func (o *openInput) unreadable(err error) error {
	if _, ok := errors.AsType[*db.Error](err); ok {
		return err
	}
	if o.in.err == nil {
		return o.refused("the content cannot be decompressed as %s", o.of.Compression)
	}
	return o.fail(o.in.err)
}

func (o *openInput) Close() error { return errors.Join(o.plain.Close(), o.in.Close()) }

// Package rowfile writes the rows of a result as a file: as JSON, NDJSON, CSV or Parquet, compressed or not, row by row
// in bounded memory. Rows come as the JSON that results have, which loses nothing; see docs/results.md for what each
// format makes of it.
package rowfile

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
)

// The formats.
const (
	JSON    = "json"
	NDJSON  = "ndjson"
	CSV     = "csv"
	Parquet = "parquet"
)

// The compressions.
const (
	None = "none"
	Zstd = "zstd"
	Gzip = "gzip"
)

// Formats returns the words for the formats.
func Formats() []string { return []string{NDJSON, JSON, CSV, Parquet} }

// Compressions returns the words for the compressions.
func Compressions() []string { return []string{None, Zstd, Gzip} }

// Extension is what the name of such a file ends in. Parquet is compressed inside, which its name does not say.
func Extension(format, compression string) string {
	switch {
	case format == Parquet || compression == None:
		return "." + format
	case compression == Zstd:
		return "." + format + ".zst"
	default:
		return "." + format + ".gz"
	}
}

// flushSize is how much is gathered before it is written, bytes.
const flushSize = 64 << 10

// Writer writes one file. It is for one goroutine.
type Writer struct {
	form   form
	buf    []byte
	out    io.Writer
	finish func() error // ends the compression
}

// form is a format: it appends to what is to be written, or keeps it for later.
type form interface {
	asArrays() bool
	begin(dst []byte) []byte
	row(dst, text []byte) ([]byte, error)
	end(dst []byte) ([]byte, error)
}

// Options are the kind of a file and the origin of its rows.
type Options struct {
	Format      string
	Compression string
	// Kind reports what the engine's words for types mean, as in its dialect; nil: they mean nothing.
	Kind func(of string) dialect.ColumnType
}

// New starts a file of rows with these columns. What is written to out is the whole file once Close has returned; out
// itself is not closed.
func New(o Options, columns []contract.Column, out io.Writer) (*Writer, error) {
	w := &Writer{out: out, finish: func() error { return nil }}
	switch o.Format {
	case JSON:
		w.form = &list{}
	case NDJSON:
		w.form = lines{}
	case CSV:
		w.form = newTable(&o, columns)
	case Parquet:
		form, err := newColumnar(&o, columns, out)
		if err != nil {
			return nil, err
		}
		w.form = form
		return w, nil
	default:
		return nil, fmt.Errorf("unknown row format %q", o.Format)
	}
	if err := w.compress(o.Compression); err != nil {
		return nil, err
	}
	w.buf = w.form.begin(make([]byte, 0, flushSize+flushSize/4))
	return w, nil
}

// zstdWindow bounds the memory of a compression and of its reader, bytes.
const zstdWindow = 1 << 20

func (w *Writer) compress(compression string) error {
	switch compression {
	case None:
	case Zstd:
		z, err := zstd.NewWriter(w.out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return err
		}
		w.out, w.finish = z, z.Close
	case Gzip:
		z := gzip.NewWriter(w.out)
		w.out, w.finish = z, z.Close
	default:
		return fmt.Errorf("unknown row compression %q", compression)
	}
	return nil
}

// typeOf is what the type of a column means.
func (o *Options) typeOf(of string) dialect.ColumnType {
	if o.Kind == nil {
		return dialect.ColumnType{}
	}
	return o.Kind(of)
}

// AsArrays reports that rows are best given as arrays; objects will do.
func (w *Writer) AsArrays() bool { return w.form.asArrays() }

// Row adds a row, one JSON array or object with a value for each column in their order.
func (w *Writer) Row(text []byte) (err error) {
	if w.buf, err = w.form.row(w.buf, text); err != nil || len(w.buf) < flushSize {
		return err
	}
	return w.flush()
}

func (w *Writer) flush() error {
	_, err := w.out.Write(w.buf)
	w.buf = w.buf[:0]
	if cap(w.buf) > 4*flushSize { // of a large row
		w.buf = make([]byte, 0, flushSize+flushSize/4)
	}
	return err
}

// Close writes what is left.
func (w *Writer) Close() (err error) {
	if w.buf, err = w.form.end(w.buf); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.finish()
}

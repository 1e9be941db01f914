package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/objects"
	"dbrunner/internal/db/rowfile"
)

// outputFlags define where the rows of a result are written to.
type outputFlags struct {
	file        string
	format      string
	compression string
	statement   int
}

func (f *outputFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "output", "o", "", `file to write the rows to, "-" for standard output`)
	flags.StringVar(&f.format, "format", "", "format of the rows: "+strings.Join(rowfile.Formats(), ", ")+" (default: from the file name's extension)")
	flags.StringVar(&f.compression, "compression", "", "compression of the rows: "+strings.Join(rowfile.Compressions(), ", ")+
		" (default: from the file name's extension)")
	flags.IntVar(&f.statement, "statement", 0, "statement of a transaction to write the rows of, from 1 (default: the only one with rows)")
}

// complete checks the flags, and finds format and compression in the file's name where none says them.
func (f *outputFlags) complete() error {
	switch {
	case f.file == "" && (f.format != "" || f.compression != "" || f.statement != 0):
		return errors.New("--format, --compression and --statement need --output")
	case f.file == "":
		return nil
	case f.format != "" && !slices.Contains(rowfile.Formats(), f.format):
		return errors.New("--format is one of " + strings.Join(rowfile.Formats(), ", "))
	case f.compression != "" && !slices.Contains(rowfile.Compressions(), f.compression):
		return errors.New("--compression is one of " + strings.Join(rowfile.Compressions(), ", "))
	case f.statement < 0:
		return errors.New("--statement counts from 1")
	}
	format, compression := formOf(f.file)
	if f.format == "" {
		f.format = format
	}
	if f.compression == "" {
		f.compression = compression
	}
	return nil
}

// formOf reads format and compression from how a file's name ends; the defaults where it says nothing.
func formOf(file string) (format, compression string) {
	for _, format := range rowfile.Formats() {
		for _, compression := range rowfile.Compressions() {
			if strings.HasSuffix(file, rowfile.Extension(format, compression)) {
				return format, compression
			}
		}
	}
	return rowfile.Formats()[0], rowfile.Compressions()[0]
}

// save writes the rows of a result to the file. What is there under its name is whole: the rows are written beside it
// first.
func (f *outputFlags) save(ctx context.Context, cmd *cobra.Command, conn *bus.Conn, result []byte) error {
	set, err := f.choose(result)
	if err != nil {
		return err
	}
	if f.file == "-" {
		return f.write(ctx, cmd.ErrOrStderr(), conn, set, cmd.OutOrStdout())
	}
	part, err := os.CreateTemp(filepath.Dir(f.file), "."+filepath.Base(f.file)+".*.part")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(part.Name()) }() // it is gone when all went well
	err = f.write(ctx, cmd.ErrOrStderr(), conn, set, part)
	if err == nil {
		err = part.Chmod(0o644)
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), f.file); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %s\n", f.file, countOf(int(set.count()), "row"), f.form(set))
	return err
}

// rowSet is a set of rows that is to be written.
type rowSet struct{ rowfile.Set }

func (s *rowSet) count() int64 {
	if s.Object != nil {
		return s.Object.RowCount
	}
	return s.RowCount
}

func (f *outputFlags) form(s *rowSet) string {
	format, compression := f.format, f.compression
	if s.Object != nil {
		format, compression = s.Object.Format, s.Object.Compression
	}
	if compression == rowfile.Compressions()[0] {
		return format
	}
	return format + ", " + compression
}

// choose finds the rows that are wanted.
func (f *outputFlags) choose(result []byte) (*rowSet, error) {
	sets, err := rowfile.Sets(result)
	if err != nil {
		return nil, err
	}
	var found []rowfile.Set
	for _, s := range sets {
		if f.statement == 0 || s.Statement == f.statement-1 {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0:
		return nil, errors.New("the result has no rows to write")
	case len(found) > 1:
		return nil, errors.New("the result has multiple sets of rows; choose one with --statement")
	}
	return &rowSet{found[0]}, nil
}

func (f *outputFlags) write(ctx context.Context, progress io.Writer, conn *bus.Conn, set *rowSet, to io.Writer) error {
	if set.Object == nil {
		return set.Write(f.format, f.compression, to)
	}
	if form := f.form(set); form != f.form(&rowSet{}) {
		return fmt.Errorf("the rows are stored as %s; name the file accordingly, or add --format %s --compression %s", form, set.Object.Format, set.Object.Compression)
	}
	object, err := objects.Fetch(ctx, conn, set.Object.Bucket, set.Object.Name)
	if errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("rows_expired: the rows of this result have expired (%s)", set.Object.Name)
	}
	if err != nil {
		return err
	}
	defer func() { _ = object.Close() }() // it was read to its end, or the error is reported already
	if object.Digest != set.Object.Digest {
		return fmt.Errorf("object %s: %w", set.Object.Name, objects.ErrDigest)
	}
	bar := &bar{out: progress, on: onTerminal(progress), whole: object.Size, started: time.Now()}
	defer bar.clear()
	if _, err := io.Copy(io.MultiWriter(to, bar), object); err != nil {
		return err
	}
	return nil
}

// bar shows on a terminal how much of a file is there.
type bar struct {
	out     io.Writer
	on      bool
	whole   int64
	read    int64
	started time.Time
	drawn   time.Time
	width   int
}

// Write counts.
func (b *bar) Write(p []byte) (int, error) {
	b.read += int64(len(p))
	if b.on && time.Since(b.drawn) > meterRedraw {
		b.draw()
	}
	return len(p), nil
}

func (b *bar) draw() {
	const marks, mebi = 30, 1 << 20
	b.drawn = time.Now()
	done := int(b.read * marks / max(b.whole, 1))
	text := fmt.Sprintf("[%s%s] %d of %d MiB, %.0f MiB/s", strings.Repeat("#", done), strings.Repeat(".", marks-done), b.read/mebi, b.whole/mebi,
		float64(b.read)/mebi/time.Since(b.started).Seconds())
	_, _ = fmt.Fprint(b.out, "\r"+text+strings.Repeat(" ", max(0, b.width-len(text))))
	b.width = len(text)
}

// clear takes the line away.
func (b *bar) clear() {
	if b.width > 0 {
		_, _ = fmt.Fprint(b.out, "\r"+strings.Repeat(" ", b.width)+"\r")
	}
}

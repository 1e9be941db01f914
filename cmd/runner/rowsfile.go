package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
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
	format, compression, ok := formOf(f.file)
	if !ok && f.format == "" {
		return fmt.Errorf("the extension %s names no format; add --format, one of %s", filepath.Ext(f.file), strings.Join(rowfile.Formats(), ", "))
	}
	f.format, f.compression = cmp.Or(f.format, format), cmp.Or(f.compression, compression)
	return nil
}

// formOf reads format and compression from how a file's name ends; the defaults where it has no extension, and not ok with one
// that is unknown.
func formOf(file string) (format, compression string, ok bool) {
	for _, format := range rowfile.Formats() {
		for _, compression := range rowfile.Compressions() {
			if strings.HasSuffix(file, rowfile.Extension(format, compression)) {
				return format, compression, true
			}
		}
	}
	return rowfile.Formats()[0], rowfile.Compressions()[0], file == "-" || filepath.Ext(file) == ""
}

// rowsFile is a file to come. What is there under its name is whole: the rows are written beside it first.
type rowsFile struct{ part *os.File } // nil: standard output, or no file is wanted

// create makes the file that the rows are written to. The owner calls discard.
func (f *outputFlags) create() (*rowsFile, error) {
	if f.file == "" || f.file == "-" {
		return &rowsFile{}, nil
	}
	part, err := os.CreateTemp(filepath.Dir(f.file), "."+filepath.Base(f.file)+".*.part")
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("--output %s: %w", f.file, e.Err) // the name that failed is the part's
	}
	return &rowsFile{part}, err
}

// discard removes what was not saved.
func (o *rowsFile) discard() {
	if o.part != nil {
		_ = o.part.Close()
		_ = os.Remove(o.part.Name()) // it is gone when all went well
	}
}

// save writes the rows of a result to the file.
func (f *outputFlags) save(ctx context.Context, cmd *cobra.Command, s *session, r *client.Result, out *rowsFile) error {
	sets := slices.DeleteFunc(r.RowSets(), func(s contract.RowSet) bool { return f.statement > 0 && s.Statement != f.statement-1 })
	switch {
	case len(sets) == 0:
		return errors.New("the result has no rows to write")
	case len(sets) > 1:
		return errors.New("the result has multiple sets of rows; choose one with --statement")
	}
	set := &rowfile.Set{RowSet: sets[0], Engine: r.Engine}
	if f.file == "-" {
		return f.write(ctx, cmd.ErrOrStderr(), s, set, cmd.OutOrStdout())
	}
	err := f.write(ctx, cmd.ErrOrStderr(), s, set, out.part)
	if err == nil {
		err = out.part.Chmod(0o644)
	}
	if err = errors.Join(err, out.part.Close()); err != nil {
		return err
	}
	if err := os.Rename(out.part.Name(), f.file); err != nil {
		return err
	}
	count, form := set.RowCount, formText(f.format, f.compression)
	if o := set.Object; o != nil {
		count, form = o.RowCount, formText(o.Format, o.Compression)
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s, %s\n", f.file, countOf(int(count), "row"), form)
	return err
}

func formText(format, compression string) string {
	if compression == rowfile.Compressions()[0] {
		return format
	}
	return format + ", " + compression
}

func (f *outputFlags) write(ctx context.Context, progress io.Writer, s *session, set *rowfile.Set, to io.Writer) error {
	o := set.Object
	if o == nil {
		return set.Write(f.format, f.compression, to)
	}
	if form := formText(o.Format, o.Compression); form != formText(f.format, f.compression) {
		return fmt.Errorf("the rows are stored as %s; name the file accordingly, or add --format %s --compression %s", form, o.Format, o.Compression)
	}
	bar := &bar{statusLine: statusLine{out: progress, on: onTerminal(progress)}, whole: o.Size, started: time.Now()}
	defer bar.clear()
	err := s.Rows(ctx, o, io.MultiWriter(to, bar))
	if errors.Is(err, client.ErrNoRows) {
		return fmt.Errorf("rows_expired: the rows of this result have expired (%s)", o.Name)
	}
	return err
}

// bar shows on a terminal how much of a file is there.
type bar struct {
	statusLine
	whole   int64
	read    int64
	started time.Time
	drawn   time.Time
}

// Write counts.
func (b *bar) Write(p []byte) (int, error) {
	b.read += int64(len(p))
	if b.on && time.Since(b.drawn) > meterRedraw {
		const marks, mebi = 30, 1 << 20
		b.drawn = time.Now()
		done := int(b.read * marks / max(b.whole, 1))
		b.draw(fmt.Sprintf("[%s%s] %d of %d MiB, %.0f MiB/s", strings.Repeat("#", done), strings.Repeat(".", marks-done),
			b.read/mebi, b.whole/mebi, float64(b.read)/mebi/time.Since(b.started).Seconds()))
	}
	return len(p), nil
}

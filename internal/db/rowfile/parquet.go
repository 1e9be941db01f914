package rowfile

import (
	"io"
	"reflect"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

const (
	// groupSize is how much of the rows becomes one row group, bytes of memory: so much is held.
	groupSize = 16 << 20
	// valueSize is what a value takes in a row group at most, besides the bytes of a text.
	valueSize = 16
	// pageSize is the largest page of a column, and least that of one among many: all columns have one at the same time.
	pageSize  = 256 << 10
	leastPage = 4 << 10
	// batchValues and batchBytes are how much is gathered before the library takes it, column by column.
	batchValues = 4 << 10
	batchBytes  = 64 << 10
)

// columnar is Parquet: typed columns, all of them optional, in groups of rows.
type columnar struct {
	columns []leaf
	out     *parquet.GenericWriter[any]
	writers []*parquet.ColumnWriter

	values [][]parquet.Value // of the rows of the batch, by column
	arena  []byte            // the texts that they point into
	batch  int               // rows in it
	held   int               // bytes of the row group
	rows   int64
}

// leaf is a column and how its values are read.
type leaf struct {
	name string
	kind
}

func newColumnar(o *Options, columns []contract.Column, out io.Writer) (*columnar, error) {
	if len(columns) == 0 { // the number of rows is nowhere but in their columns
		return nil, db.Errorf(db.ClassPermanent, contract.CodeNotSupported,
			"the rows have no columns, so Parquet cannot record their number: select one, or choose another format")
	}
	c := &columnar{columns: make([]leaf, len(columns)), values: make([][]parquet.Value, len(columns))}
	root := &ordered{Group: make(parquet.Group, len(columns))}
	for i := range columns {
		name := columns[i].Name
		if _, twice := root.Group[name]; twice {
			return nil, db.Errorf(db.ClassPermanent, contract.CodeDuplicateColumn,
				"two columns are named %s: rename one with AS, or choose another format", strconv.Quote(name))
		}
		c.columns[i] = leaf{name: name, kind: kindOf(o.typeOf(columns[i].Type), columns[i].Type)}
		root.Group[name] = parquet.Optional(c.columns[i].node())
		root.names = append(root.names, name)
	}
	page := min(max(groupSize/max(len(columns), 1), leastPage), pageSize)
	c.out = parquet.NewGenericWriter[any](out, parquet.NewSchema("rows", root), parquet.Compression(codec(o.Compression)),
		parquet.CreatedBy("dbrunner", "1", ""), parquet.PageBufferSize(page), parquet.ColumnPageBuffers(parquet.NewChunkBufferPool(page)),
		parquet.ColumnIndexSizeLimit(func([]string) int { return groupSize })) // bounded shortens them
	c.writers = c.out.ColumnWriters()
	return c, nil
}

func codec(compression string) compress.Codec {
	switch compression {
	case Zstd:
		return &parquet.Zstd
	case Gzip:
		return &parquet.Gzip
	default:
		return &parquet.Uncompressed
	}
}

// ordered is a group whose fields stand in the order of the query: the library's own are sorted by name.
type ordered struct {
	parquet.Group

	names []string
}

// Fields returns the columns in their order.
func (o *ordered) Fields() []parquet.Field {
	byName := make(map[string]parquet.Field, len(o.names))
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.names))
	for i, name := range o.names {
		fields[i] = byName[name]
	}
	return fields
}

// GoType is of no use: rows are written as values.
func (o *ordered) GoType() reflect.Type { return reflect.TypeFor[struct{}]() }

func (*columnar) asArrays() bool          { return true }
func (*columnar) begin(dst []byte) []byte { return dst }

func (c *columnar) row(dst, text []byte) ([]byte, error) {
	c.rows++
	values := valuesOf(text)
	for i := range c.columns {
		value := values.next()
		if value == nil {
			return dst, errRow
		}
		v, err := c.value(&c.columns[i], value)
		if err != nil {
			return dst, err
		}
		c.values[i] = append(c.values[i], v)
	}
	c.batch++
	if c.batch*len(c.columns) < batchValues && len(c.arena) < batchBytes {
		return dst, nil
	}
	return dst, c.handOver()
}

func (c *columnar) value(l *leaf, text []byte) (parquet.Value, error) {
	if string(text) == "null" {
		return parquet.NullValue().Level(0, 0, 0), nil
	}
	text, fits := l.stored(text)
	var v parquet.Value
	if fits {
		v, c.arena, fits = l.read(c.arena, text)
	}
	if !fits {
		return v, db.Errorf(db.ClassPermanent, contract.CodeData,
			"row %d: a value of column %s does not fit the Parquet type %s: CAST the column to text, or choose another format",
			c.rows, strconv.Quote(l.name), l.kind.name)
	}
	return v.Level(0, 1, 0), nil
}

// handOver gives the batch to the library, which copies it, and ends the row group when it is large enough.
func (c *columnar) handOver() error {
	for i, w := range c.writers {
		if _, err := w.WriteRowValues(c.values[i]); err != nil {
			return err
		}
		clear(c.values[i])
		c.values[i] = c.values[i][:0]
	}
	c.held += c.batch*len(c.columns)*valueSize + len(c.arena)
	c.batch, c.arena = 0, c.arena[:0]
	if cap(c.arena) > 4*batchBytes { // of a large row
		c.arena = nil
	}
	if c.held < groupSize {
		return nil
	}
	c.held = 0
	return c.out.Flush()
}

func (c *columnar) end(dst []byte) ([]byte, error) {
	if err := c.handOver(); err != nil {
		return dst, err
	}
	return dst, c.out.Close()
}

// boundSize is the longest bound of texts that a file states, bytes.
const boundSize = 32

// bounded is a type of texts whose bounds are shortened before the library keeps them. It would keep those of every page
// and every row group in full, until the end of the file.
type bounded struct{ parquet.Type }

// NewColumnBuffer returns a buffer that shortens.
func (b bounded) NewColumnBuffer(columnIndex, numValues int) parquet.ColumnBuffer {
	return boundedBuffer{b.Type.NewColumnBuffer(columnIndex, numValues)}
}

type boundedBuffer struct{ parquet.ColumnBuffer }

// Page returns the page.
func (b boundedBuffer) Page() parquet.Page { return boundedPage{b.ColumnBuffer.Page()} }

type boundedPage struct{ parquet.Page }

// Bounds returns texts between which all of the page are.
func (p boundedPage) Bounds() (low, high parquet.Value, ok bool) {
	low, high, ok = p.Page.Bounds()
	if !ok {
		return low, high, ok
	}
	if text := low.ByteArray(); len(text) > boundSize {
		low = parquet.ByteArrayValue(text[:boundSize])
	}
	if text := high.ByteArray(); len(text) > boundSize {
		high = parquet.ByteArrayValue(above(text))
	}
	return low, high, ok
}

// above is a short text that is greater than a long one; the long one itself if there is none.
func above(text []byte) []byte {
	for i := boundSize - 1; i >= 0; i-- {
		if text[i] != 0xff {
			short := append(make([]byte, 0, boundSize), text[:i+1]...)
			short[i]++
			return short
		}
	}
	return text
}

package jobs

import (
	"encoding/json"
	"errors"
	"io"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/rowfile"
)

// RowSet is one set of rows of a result.
type RowSet struct {
	contract.RowSet
	Engine string // public name of the engine whose words the columns' types are; empty: the result does not say
}

// RowSets reads the sets of rows of an encoded result, in their order.
func RowSets(result []byte) ([]RowSet, error) {
	r, err := contract.ReadResult(result)
	if err != nil {
		return nil, err
	}
	var sets []RowSet
	for _, set := range r.RowSets() {
		sets = append(sets, RowSet{set, r.Engine})
	}
	return sets, nil
}

// Write writes rows that are in the result as a file of a format: the same that a runner writes to the object store.
func (s *RowSet) Write(format, compression string, to io.Writer) error {
	if s.Object != nil {
		return errors.New("the rows are not in the result")
	}
	w, err := rowfile.New(rowfile.Options{Format: format, Compression: compression, Kind: dialect.TypeOf(s.Engine)}, s.Columns, to)
	if err != nil {
		return err
	}
	if err := s.EachRow(func(row json.RawMessage) error { return w.Row(row) }); err != nil {
		return err
	}
	return w.Close()
}

// RowFormats returns the words for the formats of rows outside of results, the default first.
func RowFormats() []string { return rowfile.Formats() }

// RowCompressions returns the words for their compressions, the default first.
func RowCompressions() []string { return rowfile.Compressions() }

// RowExtension is what the name of such a file ends in.
func RowExtension(format, compression string) string { return rowfile.Extension(format, compression) }

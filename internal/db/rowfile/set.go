package rowfile

import (
	"encoding/json"
	"errors"
	"io"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
)

// Set is one set of rows of a result.
type Set struct {
	contract.RowSet
	Engine string // public name of the engine whose words the columns' types are; empty: the result does not say
}

// Write writes rows that are in the result as a file of a format: the same that a runner writes to the object store.
func (s *Set) Write(format, compression string, to io.Writer) error {
	if s.Object != nil {
		return errors.New("the rows are not in the result")
	}
	w, err := New(Options{Format: format, Compression: compression, Kind: dialect.TypeOf(s.Engine)}, s.Columns, to)
	if err != nil {
		return err
	}
	if err := s.EachRow(func(row json.RawMessage) error { return w.Row(row) }); err != nil {
		return err
	}
	return w.Close()
}

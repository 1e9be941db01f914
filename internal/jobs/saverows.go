package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/rowfile"
)

// RowSet is one set of rows of a result: those in it, or where they are.
type RowSet struct {
	Statement int    // of a transaction, from 0
	Engine    string // public name of the engine whose words the columns' types are; empty: the result does not say
	Columns   []db.Column
	Rows      []json.RawMessage // nil if Object is there
	Object    *db.RowsObject
}

// encodedSet is a set of rows as results have it.
type encodedSet struct {
	Columns []struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"columns"`
	Rows   []json.RawMessage `json:"rows"`
	Object *struct {
		Bucket      string `json:"bucket"`
		Name        string `json:"name"`
		Size        int64  `json:"size"`
		RowCount    int64  `json:"row_count"`
		Digest      string `json:"digest"`
		Format      string `json:"format"`
		Compression string `json:"compression"`
	} `json:"rows_object"`
	More []encodedSet `json:"more"`
}

// RowSets reads the sets of rows of an encoded result, in their order.
func RowSets(result []byte) ([]RowSet, error) {
	var answer struct {
		encodedSet

		Engine     string       `json:"engine"`
		Statements []encodedSet `json:"statements"`
	}
	if err := json.Unmarshal(result, &answer); err != nil {
		return nil, fmt.Errorf("read a result: %w", err)
	}
	sets := answer.take(nil, 0)
	for i := range answer.Statements {
		sets = answer.Statements[i].take(sets, i)
	}
	for i := range sets {
		sets[i].Engine = answer.Engine
	}
	return sets, nil
}

func (e *encodedSet) take(sets []RowSet, statement int) []RowSet {
	if e.Columns != nil {
		set := RowSet{Statement: statement, Rows: e.Rows, Object: (*db.RowsObject)(e.Object)}
		for _, c := range e.Columns {
			set.Columns = append(set.Columns, db.Column(c))
		}
		sets = append(sets, set)
	}
	for i := range e.More {
		sets = e.More[i].take(sets, statement)
	}
	return sets
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
	for _, row := range s.Rows {
		if err := w.Row(row); err != nil {
			return err
		}
	}
	return w.Close()
}

// RowFormats returns the words for the formats of rows outside of results, the default first.
func RowFormats() []string { return rowfile.Formats() }

// RowCompressions returns the words for their compressions, the default first.
func RowCompressions() []string { return rowfile.Compressions() }

// RowExtension is what the name of such a file ends in.
func RowExtension(format, compression string) string { return rowfile.Extension(format, compression) }

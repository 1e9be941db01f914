package sqlserver

import (
	"database/sql/driver"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// maxParts is the maximum number of result sets and row counts of one statement: a loop makes one of either per round.
const maxParts = 1000

// collector is the receiver of a job's statement.
type collector struct {
	encoder *engine.RowEncoder
	shape   []column
	parts   []db.ResultSet
	open    bool // the rows of a result set are being read
}

func (c *collector) columns(columns []column) error {
	c.shape, c.open = columns, true
	named := make([]contract.Column, len(columns))
	for i := range columns {
		named[i] = columns[i].Column
	}
	return asError(c.encoder.Start(named))
}

func (c *collector) row(values []driver.Value) error {
	dst := c.encoder.BeginRow()
	var err error
	for i := range values {
		if dst, err = appendValue(c.encoder.Next(dst), &c.shape[i], values[i]); err != nil {
			return err
		}
	}
	return asError(c.encoder.EndRow(dst))
}

// count takes a number of rows; of a result set it is known already.
func (c *collector) count(rows int64) error {
	if c.open {
		return nil
	}
	return c.add(db.ResultSet{RowsAffected: rows})
}

// add keeps a part of the answer.
func (c *collector) add(part db.ResultSet) error {
	if len(c.parts) == maxParts {
		return db.Errorf(db.ClassPermanent, contract.CodeResultTooLarge, "the statement returns more than %d row counts and result sets; "+
			"write SET NOCOUNT ON before a loop, and select its rows once, behind it", maxParts)
	}
	c.parts = append(c.parts, part)
	return nil
}

func (c *collector) next() error {
	if c.open {
		set, err := c.encoder.Finish()
		c.open = false
		if err != nil {
			return asError(err)
		}
		return c.add(set)
	}
	return nil
}

// set is the answer of a statement: its first result set; without one, the last count, as that is the statement's own
// where a trigger has counted too. All other parts are beside it.
func (c *collector) set() db.ResultSet {
	if len(c.parts) == 0 {
		return db.ResultSet{}
	}
	main := len(c.parts) - 1
	for i := range c.parts {
		if c.parts[i].Columns != nil {
			main = i
			break
		}
	}
	set := c.parts[main]
	if len(c.parts) > 1 {
		set.More = append(append([]db.ResultSet{}, c.parts[:main]...), c.parts[main+1:]...)
	}
	return set
}

// asError keeps an error of the encoder one of ours.
func asError(err error) error {
	if err == nil {
		return nil
	}
	return engine.NotEncoded(err)
}

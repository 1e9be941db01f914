package bulk

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/rowfile"
)

// Objects keeps rows that have no room in results, as objects that are whole or not there.
type Objects interface {
	// Bucket is where the objects are.
	Bucket() string
	// Ready waits until objects can be written, as far as is known.
	Ready(ctx context.Context) error
	// Create starts an object. Its errors, and those of writing, are ErrRowsFull or name another reason.
	Create(ctx context.Context, database, name string) (Object, error)
	// Complete reports whether the whole of an object is there.
	Complete(ctx context.Context, name string) (bool, error)
}

// Object is an object that is being written.
type Object interface {
	// Write adds to it, waiting where the store is slower.
	Write(ctx context.Context, p []byte) error
	// Close makes it durable and seen.
	Close(ctx context.Context) (size int64, digest string, err error)
	// Discard removes it, complete or not.
	Discard(ctx context.Context) error
}

// ErrRowsFull is returned when there is no room for rows outside of results.
var ErrRowsFull = errors.New("the store of rows is full")

// discardTimeout limits the removal of the unreferenced objects of one execution, of which a transaction may have as many as
// statements. What it leaves is cleaned up later.
const discardTimeout = 5 * time.Second

// Target is where the rows of one job go, over all of its executions, and what bounds them.
type Target struct {
	Objects     Objects
	Format      string
	Compression string
	Dialect     *dialect.Dialect // whose names the columns' types are
	Database    string
	JobID       string
	Sequence    uint64 // of the job's message
	Timestamp   time.Time
	Timeout     time.Duration // of an execution, from when it got a connection; 0: none
}

// Overflow takes the rows of one job that have no room in its result. The zero value takes none. Most jobs have no such
// rows: what it costs to write them arises with the first.
type Overflow struct {
	Target

	// StartedAt is when the execution under way got its connection.
	StartedAt time.Time

	failed bool // the store failed in the execution before

	// Of the execution under way.
	open    func(set int, columns []contract.Column) (db.RowFile, error)
	written []*objectRows // in their order
}

// Start starts an execution. After a failure of the store it waits for it first, while it has no connection to the
// database.
func (o *Overflow) Start(ctx context.Context) error {
	if o.Objects == nil {
		return nil
	}
	if o.failed {
		if err := o.Objects.Ready(ctx); err != nil {
			return o.failure(ctx, ctx, err)
		}
		o.failed = false
	}
	o.open = func(set int, columns []contract.Column) (db.RowFile, error) { return o.create(ctx, set, columns) }
	return nil
}

// Finish finishes an execution with its error. What it wrote stays if it has succeeded, and if it may have: then the ledger row names it.
func (o *Overflow) Finish(ctx context.Context, err error) {
	for _, rows := range o.written {
		rows.cancel()
	}
	if err != nil && db.ClassOf(err) != db.ClassUnknown {
		o.discard(ctx)
	}
	o.open, o.written = nil, nil
}

// discard removes what was written in this execution, whatever its bounds.
func (o *Overflow) discard(ctx context.Context) {
	if len(o.written) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	for _, rows := range o.written {
		rows.cancel()
		_ = rows.object.Discard(limited) // what it leaves is cleaned up later
	}
	o.written = nil
}

// bounds are those of the execution under way for what is written for it: its time limit, from when it got a connection.
func (o *Overflow) bounds(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.Timeout > 0 {
		return context.WithDeadline(ctx, o.StartedAt.Add(o.Timeout))
	}
	return context.WithCancel(ctx)
}

// failure returns what a failure of the store means for the execution, of which parent are the bounds and ctx those with its
// time limit.
func (o *Overflow) failure(parent, ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	o.failed = true
	switch {
	case parent.Err() != nil:
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the job was stopped while storing its rows; it is rolled back").
			Because(context.Cause(parent))
	case ctx.Err() != nil:
		return db.Errorf(db.ClassTimeout, contract.CodeTimeout, "the job reached its time limit while storing its rows; it is rolled back").
			Because(context.DeadlineExceeded)
	case errors.Is(err, ErrRowsFull):
		return db.Errorf(db.ClassTransient, contract.CodeRowsFull, "the object store of rows is full; request fewer rows, or retry later").
			Because(err)
	default:
		return db.Errorf(db.ClassTransient, contract.CodeRowsUnavailable, "the object store did not accept the rows").
			Because(err)
	}
}

// Open starts the rows of a set; see db.Overflow.
func (o *Overflow) Open(set int, columns []contract.Column) (db.RowFile, error) {
	return o.open(set, columns)
}

// create starts the object of a set's rows, within the bounds of the execution. A set that is started once more, as all
// of its call is, takes the place of what was written before.
func (o *Overflow) create(ctx context.Context, set int, columns []contract.Column) (db.RowFile, error) {
	if n := len(o.written); n > 0 && o.written[n-1].set >= set {
		o.discard(ctx)
	}
	bounded, cancel := o.bounds(ctx)
	name := o.name()
	object, err := o.Objects.Create(bounded, o.Database, name)
	if err != nil {
		defer cancel()
		return nil, o.failure(ctx, bounded, err)
	}
	rows := &objectRows{
		set: set, object: object, cancel: cancel,
		place: contract.RowsObject{Bucket: o.Objects.Bucket(), Name: name, Format: o.Format, Compression: o.Compression},
		finish: func() (int64, string, error) {
			size, digest, err := object.Close(bounded)
			return size, digest, o.failure(ctx, bounded, err)
		},
	}
	o.written = append(o.written, rows)
	rows.Writer, err = rowfile.New(rowfile.Options{
		Format: o.Format, Compression: o.Compression, Kind: o.Dialect.Kind,
	}, columns, writeFunc(func(p []byte) error { return o.failure(ctx, bounded, object.Write(bounded, p)) }))
	return rows, err
}

// name returns a new name: of the database, of the IDs under which the result may be stored, and of this execution alone.
func (o *Overflow) name() string {
	parts := []string{o.Database, o.JobID}
	if derived := contract.DerivedID(o.Sequence, o.Timestamp); derived != o.JobID {
		parts = append(parts, derived)
	}
	return strings.Join(append(parts, rand.Text()), ".") + rowfile.Extension(o.Format, o.Compression)
}

// RowsOf returns from an object's name the database of its rows, and the ids under which the result that names it
// may be stored, the job's own first. An empty name: they are not of any job.
func RowsOf(object string) (database string, ids []string) {
	parts := strings.Split(object, ".")
	const least = 4 // database, id, token, format
	if len(parts) < least || !contract.ValidResultID(parts[1]) {
		return "", nil
	}
	ids = parts[1:2]
	if contract.IsDerivedID(parts[2]) {
		ids = parts[1:3]
	}
	return parts[0], ids
}

// writeFunc is a function that writes all that it is given.
type writeFunc func(p []byte) error

func (f writeFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// objectRows are the rows of one set that go outside.
type objectRows struct {
	*rowfile.Writer

	set    int
	object Object
	place  contract.RowsObject
	finish func() (size int64, digest string, err error) // completes the object
	cancel context.CancelFunc                            // ends the bounds of its writing
}

// Row adds a row; see db.RowFile.
func (r *objectRows) Row(text []byte) error {
	r.place.RowCount++
	return r.Writer.Row(text)
}

// Close completes the object; see db.RowFile.
func (r *objectRows) Close() (*contract.RowsObject, error) {
	err := r.Writer.Close()
	if err != nil {
		return nil, err
	}
	if r.place.Size, r.place.Digest, err = r.finish(); err != nil {
		return nil, err
	}
	return &r.place, nil
}

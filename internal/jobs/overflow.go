package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/rowfile"
)

// Objects keeps rows that have no room in results, as objects that are whole or not there.
type Objects interface {
	// Bucket is where the objects are.
	Bucket() string
	// Ready waits until objects can be written, as far as is known.
	Ready(ctx context.Context) error
	// Create begins an object. Its errors, and those of writing, are ErrRowsFull or name another reason.
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

// ErrRowsFull says that there is no room for rows outside of results.
var ErrRowsFull = errors.New("the store of rows is full")

// errPanicked is the end of an execution that came to none.
var errPanicked = errors.New("the execution panicked")

// discardTimeout bounds the removal of what nobody will ask for. What it leaves is cleaned up later.
const discardTimeout = 5 * time.Second

// overflow takes the rows of one job that have no room in its result, over all of its executions. A nil one takes none.
type overflow struct {
	objects  Objects
	database string
	engine   string   // its public name
	ids      []string // under which the result may be stored
	output   Output
	timeout  time.Duration // of one execution, once it has a connection

	failed bool // the store failed in the execution before

	// Of the execution under way, from begin to end.
	open    func(name string) (*boundObject, error)
	begun   func()         // it has a connection
	finish  func()         // its bounds end
	remove  func(o Object) // whatever its bounds
	written []*outsideRows // in their order
}

// boundObject is an object within the bounds of its execution.
type boundObject struct {
	Object

	write func(p []byte) error
	close func() (size int64, digest string, err error)
}

// allowOverflow lets the rows of a job go outside where it may.
func (r *run) allowOverflow(x *execution) {
	p, out := &r.e.opts.Policy.Output, r.job.Output
	if out.Mode == OutputInline || r.job.ReplyOnly || p.Off || r.e.opts.Objects == nil {
		return
	}
	over := &overflow{
		objects: r.e.opts.Objects, database: r.d.Database, engine: r.e.opts.Database.Engine(), ids: []string{r.id}, output: out, timeout: r.job.Timeout,
	}
	if !r.derived {
		over.ids = append(over.ids, DerivedID(r.d.Sequence, r.d.Timestamp))
	}
	x.over, x.call.Begin = over, func() error {
		err := r.begin()
		if err == nil {
			over.begun()
		}
		return err
	}
	x.rows.InlineBytes, x.rows.Sets = x.rows.MaxBytes, r.job.work.size()
	x.rows.MaxRows, x.rows.MaxBytes = lower(r.job.MaxRows, p.MaxRows), p.MaxBytes
	x.rows.Overflow, x.rows.Outside = over, out.Mode == OutputObject
}

// begin begins an execution, whose bounds are those of what is written for it. After a failure of the store it waits
// for it first, while it has no connection to the database.
func (o *overflow) begin(parent context.Context) error {
	if o == nil {
		return nil
	}
	if o.failed {
		if err := o.objects.Ready(parent); err != nil {
			return o.failure(parent, parent, err)
		}
		o.failed = false
	}
	ctx, cancel := context.WithCancel(parent)
	var limit *time.Timer
	o.begun = func() {
		if o.timeout > 0 {
			limit = time.AfterFunc(o.timeout, cancel)
		}
	}
	o.finish = func() {
		if limit != nil {
			limit.Stop()
		}
		cancel()
	}
	o.remove = func(object Object) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), discardTimeout)
		defer cancel()
		_ = object.Discard(ctx) // what it leaves is cleaned up later
	}
	o.open = func(name string) (*boundObject, error) {
		object, err := o.objects.Create(ctx, o.database, name)
		if err != nil {
			return nil, o.failure(parent, ctx, err)
		}
		return &boundObject{
			Object: object,
			write:  func(p []byte) error { return o.failure(parent, ctx, object.Write(ctx, p)) },
			close: func() (int64, string, error) {
				size, digest, err := object.Close(ctx)
				return size, digest, o.failure(parent, ctx, err)
			},
		}, nil
	}
	return nil
}

// end ends an execution. What it wrote stays if it has succeeded, and if it may have: then the ledger row names it.
func (o *overflow) end(err error) {
	if o == nil {
		return
	}
	if o.finish == nil {
		return
	}
	o.finish()
	o.finish = nil
	if err != nil && db.ClassOf(err) != db.ClassUnknown {
		o.discard()
	}
	o.written = nil
}

// discard removes what was written in this execution.
func (o *overflow) discard() {
	for _, rows := range o.written {
		o.remove(rows.object)
	}
	o.written = nil
}

// failure says what a failure of the store means for the execution.
func (o *overflow) failure(parent, ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	o.failed = true
	switch {
	case parent.Err() != nil:
		return db.Errorf(db.ClassCanceled, db.CodeCanceled, "the work was given up while its rows were stored; it is rolled back").
			Because(context.Cause(parent))
	case ctx.Err() != nil:
		return db.Errorf(db.ClassTimeout, db.CodeTimeout, "the job's time limit is over while its rows were stored; it is rolled back").
			Because(context.DeadlineExceeded)
	case errors.Is(err, ErrRowsFull):
		return db.Errorf(db.ClassTransient, CodeRowsFull, "the store of rows outside of results is full; ask for fewer rows, or again later").
			Because(err)
	default:
		return db.Errorf(db.ClassTransient, CodeRowsUnavailable, "the store of rows outside of results did not take the rows").
			Because(err)
	}
}

// Open begins the rows of a set; see db.Overflow.
func (o *overflow) Open(set int, columns []db.Column) (db.RowFile, error) {
	if n := len(o.written); n > 0 && o.written[n-1].set >= set {
		o.discard()
	}
	name := o.database + "." + strings.Join(o.ids, ".") + "." + rand.Text() + rowfile.Extension(o.output.Format, o.output.Compression)
	object, err := o.open(name)
	if err != nil {
		return nil, err
	}
	rows := &outsideRows{set: set, object: object, place: db.RowsObject{
		Bucket: o.objects.Bucket(), Name: name, Format: o.output.Format, Compression: o.output.Compression,
	}}
	o.written = append(o.written, rows)
	rows.Writer, err = rowfile.New(rowfile.Options{
		Format: o.output.Format, Compression: o.output.Compression, Engine: o.engine,
	}, columns, writeFunc(object.write))
	return rows, err
}

// RowsOf tells from an object's name of which database its rows are, and the ids under which the result that names it
// may be stored, the job's own first. An empty name: they are not of any job.
func RowsOf(object string) (database string, ids []string) {
	parts := strings.Split(object, ".")
	const least = 4 // database, id, token, format
	if len(parts) < least || !validToken(parts[1], maxID) {
		return "", nil
	}
	ids = parts[1:2]
	if IsDerivedID(parts[2]) {
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

// outsideRows are the rows of one set that go outside.
type outsideRows struct {
	*rowfile.Writer

	set    int
	object *boundObject
	place  db.RowsObject
}

// Row adds a row; see db.RowFile.
func (r *outsideRows) Row(text []byte) error {
	r.place.RowCount++
	return r.Writer.Row(text)
}

// Close completes the object; see db.RowFile.
func (r *outsideRows) Close() (*db.RowsObject, error) {
	err := r.Writer.Close()
	if err != nil {
		return nil, err
	}
	if r.place.Size, r.place.Digest, err = r.object.close(); err != nil {
		return nil, err
	}
	return &r.place, nil
}

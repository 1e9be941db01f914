package objects

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// Bucket is a bucket of the object store, read and written as every client library does
// (https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md). An object's chunks are stored first
// and its description last: before that nothing of it is visible. It is safe for concurrent use.
//
// The chunks are written and read without the library's own object store, which has no bound on chunks that wait for
// their answer, chooses the chunks' subject by itself and pushes as fast as it can.
type Bucket struct {
	conn   *bus.Conn
	name   string
	stream string
}

// Rows is the bucket for rows that are too many for a result.
func Rows(c *bus.Conn) *Bucket { return newBucket(c, c.Subjects().RowsBucket()) }

// Params is the bucket for parameters that are too many for a job.
func Params(c *bus.Conn) *Bucket { return newBucket(c, c.Subjects().ParamsBucket()) }

func newBucket(c *bus.Conn, name string) *Bucket {
	return &Bucket{conn: c, name: name, stream: bus.ObjectPrefix + name}
}

// Name is the bucket's name.
func (b *Bucket) Name() string { return b.name }

// Ready waits for a link to the servers.
func (b *Bucket) Ready(ctx context.Context) error { return b.conn.AwaitLink(ctx) }

// Object describes a complete object.
type Object struct {
	Name     string
	Size     int64
	Digest   string    // "SHA-256=" and the sum in URL-safe base64
	Modified time.Time // when its description was stored, by the server's clock
	chunks   int64
	mark     string // last part of the chunks' subject
}

// maxObjectName bounds names: they go into a subject, longer by a third.
const maxObjectName = 512

func encodeObjectName(name string) (string, error) {
	if name == "" || len(name) > maxObjectName {
		return "", fmt.Errorf("%w: an object's name has 1 to %d bytes", bus.ErrSubject, maxObjectName)
	}
	return base64.URLEncoding.EncodeToString([]byte(name)), nil
}

// Lookup describes an object as the stream's leader knows it; nil if there is none.
func (b *Bucket) Lookup(ctx context.Context, name string) (*Object, error) {
	encoded, err := encodeObjectName(name)
	if err != nil {
		return nil, err
	}
	m, err := bus.GetMessage(ctx, b.conn, b.stream, bus.GetRequest{LastFor: bus.MetaSubject(b.name, encoded)})
	if errors.Is(err, bus.ErrNotFound) {
		return nil, fmt.Errorf("bucket %s: %w", b.name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("look up object %s in bucket %s: %w", name, b.name, err)
	}
	if m == nil {
		return nil, nil
	}
	return readObject(name, m)
}

// mark is a literal subject of chunks: a description must not make us read anything else.
var mark = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// errDescription: what describes an object is of no use.
var errDescription = errors.New("the description of an object is not valid")

// readObject reads the description under a name; nil if the object was deleted.
func readObject(name string, m *bus.StoredMessage) (*Object, error) {
	var info jetstream.ObjectInfo
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return nil, fmt.Errorf("%w: %w", errDescription, err)
	}
	switch {
	case info.Deleted:
		return nil, nil
	case info.Name != name || info.Size > math.MaxInt64:
		return nil, fmt.Errorf("%w: it is not that of object %s", errDescription, name)
	case info.Opts != nil && info.Opts.Link != nil:
		return nil, fmt.Errorf("%w: object %s is a link, which is not followed", errDescription, info.Name)
	case !mark.MatchString(info.NUID) || len(info.NUID) > maxObjectName:
		return nil, fmt.Errorf("%w: object %s names no valid chunks", errDescription, info.Name)
	}
	return &Object{
		Name: info.Name, Size: int64(info.Size), Digest: info.Digest, Modified: m.Time,
		chunks: int64(info.Chunks), mark: info.NUID,
	}, nil
}

// Complete reports whether all chunks of an object are still there: they are as old as its beginning, and go first.
func (b *Bucket) Complete(ctx context.Context, o *Object) (bool, error) {
	n, err := b.count(ctx, o.mark)
	return n == o.chunks, err
}

// count is the number of chunks under a mark.
func (b *Bucket) count(ctx context.Context, mark string) (int64, error) {
	subject := bus.ChunkSubject(b.name, mark)
	subjects, _, err := b.subjects(ctx, subject)
	if err != nil {
		return 0, err
	}
	return int64(subjects[subject]), nil //nolint:gosec // no stream holds 2^63 messages
}

// subjects lists subjects of the bucket's stream with the number of their messages, and the server's time; the server
// lists the first 100,000.
func (b *Bucket) subjects(ctx context.Context, filter string) (map[string]uint64, time.Time, error) {
	var info jetstream.StreamInfo
	request := map[string]string{"subjects_filter": filter}
	if err := b.conn.APIRetry(ctx, "STREAM.INFO."+b.stream, request, &info); err != nil {
		return nil, time.Time{}, fmt.Errorf("bucket %s: %w", b.name, err)
	}
	return info.State.Subjects, info.TimeStamp, nil
}

// Remove removes an object, its description first. One that is not there is removed already.
func (b *Bucket) Remove(ctx context.Context, o *Object) error {
	encoded, err := encodeObjectName(o.Name)
	if err == nil {
		err = b.purge(ctx, bus.MetaSubject(b.name, encoded))
	}
	if err == nil {
		err = b.purge(ctx, bus.ChunkSubject(b.name, o.mark))
	}
	return err
}

func (b *Bucket) purge(ctx context.Context, subject string) error {
	request := map[string]string{"filter": subject}
	if err := b.conn.APIRetry(ctx, "STREAM.PURGE."+b.stream, request, nil); err != nil {
		return fmt.Errorf("bucket %s: %w", b.name, err)
	}
	return nil
}

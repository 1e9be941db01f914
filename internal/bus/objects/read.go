package objects

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/bus"
)

// ErrDigest is returned when the content that was read does not fit the digest.
var ErrDigest = errors.New("the object's content does not match its digest")

// chunkTimeout is how long a missing chunk is requested: a replica may not have it yet.
const chunkTimeout = 5 * time.Second

// ObjectReader reads one object, chunk by chunk, as fast as its reader and no faster. It is for one goroutine.
type ObjectReader struct {
	Object

	bucket *Bucket
	sum    hash.Hash
	next   uint64 // where in the stream the next chunk is looked for
	read   int64  // chunks
	size   int64  // bytes
}

// Open starts to read an object; ErrNotFound if there is none.
func (b *Bucket) Open(ctx context.Context, name string) (*ObjectReader, error) {
	o, err := b.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, fmt.Errorf("object %s in bucket %s: %w", name, b.name, bus.ErrNotFound)
	}
	return &ObjectReader{Object: *o, bucket: b, sum: sha256.New(), next: 1}, nil
}

// Next returns the next chunk, which is the caller's. At the end it returns io.EOF if all that was read fits the
// object's digest, else ErrDigest. ErrNotFound: chunks have gone.
func (r *ObjectReader) Next(ctx context.Context) ([]byte, error) {
	if r.read == r.chunks {
		return nil, r.end()
	}
	started := time.Now()
	for attempt := 0; ; attempt++ {
		m, err := r.bucket.chunk(ctx, r.next, r.mark)
		switch {
		case err == nil && m != nil:
			return r.take(m)
		case err == nil && time.Since(started) > chunkTimeout:
			return nil, fmt.Errorf("object %s in bucket %s: chunk %d: %w", r.Name, r.bucket.name, r.read+1, bus.ErrNotFound)
		case err != nil && !bus.Transient(err):
			return nil, fmt.Errorf("read object %s in bucket %s: %w", r.Name, r.bucket.name, err)
		}
		if err := r.bucket.conn.AwaitLink(ctx); err != nil {
			return nil, err
		}
		if err := bus.Pause(ctx, bus.Backoff(attempt, 5*time.Millisecond, time.Second)); err != nil {
			return nil, fmt.Errorf("read object %s in bucket %s: %w", r.Name, r.bucket.name, err)
		}
	}
}

func (r *ObjectReader) take(m *nats.Msg) ([]byte, error) {
	sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read object %s in bucket %s: %w", r.Name, r.bucket.name, err)
	}
	r.next = sequence + 1
	r.read++
	r.size += int64(len(m.Data))
	r.sum.Write(m.Data)
	return m.Data, nil
}

func (r *ObjectReader) end() error {
	digest := digestOpening + base64.URLEncoding.EncodeToString(r.sum.Sum(nil))
	if digest != r.Digest || r.size != r.Size {
		return fmt.Errorf("object %s in bucket %s: %w", r.Name, r.bucket.name, ErrDigest)
	}
	return io.EOF
}

// chunk reads the first chunk at or behind a place of the stream, from any replica; nil if there is none.
func (b *Bucket) chunk(ctx context.Context, from uint64, mark string) (*nats.Msg, error) {
	request, err := json.Marshal(bus.GetRequest{Sequence: from, NextFor: bus.ChunkSubject(b.name, mark)})
	if err != nil {
		return nil, err
	}
	return bus.DirectGet(ctx, b.conn, b.conn.APIPrefix()+"DIRECT.GET."+b.stream, request)
}

// Reader reads the object as a stream of bytes, as long as the context lives. Closing it has nothing to give back.
func (r *ObjectReader) Reader(ctx context.Context) io.ReadCloser {
	var rest []byte
	return io.NopCloser(readFunc(func(p []byte) (int, error) {
		for len(rest) == 0 {
			var err error
			if rest, err = r.Next(ctx); err != nil {
				return 0, err
			}
		}
		n := copy(p, rest)
		rest = rest[n:]
		return n, nil
	}))
}

// readFunc is a function that reads.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

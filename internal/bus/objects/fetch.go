package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// fetchStall is how long nothing may come of an object that is fetched. Its chunks may be gone, which is not announced.
const fetchStall = 30 * time.Second

// Fetched is an object as a client reads it: by a consumer of its own chunks, for which a client may have the right
// without that to read those of others. At the end of a content that does not fit its digest the error is ErrDigest.
type Fetched struct {
	Object

	bucket  string
	content jetstream.ObjectResult
	stall   *time.Timer
	cancel  context.CancelFunc
}

// Fetch starts to read an object of a bucket; ErrNotFound if there is none. The owner calls Close.
func Fetch(ctx context.Context, c *bus.Conn, bucket, name string) (*Fetched, error) {
	if err := bus.CheckName("bucket", bucket); err != nil {
		return nil, err
	}
	js, err := bus.JetStream(c)
	if err != nil {
		return nil, err
	}
	store, err := js.ObjectStore(ctx, bucket)
	if err != nil {
		return nil, fetchError(bucket, name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	// Without a deadline the library bounds the whole by its default for one request.
	bounded, release := context.WithTimeout(ctx, 24*time.Hour)
	f := &Fetched{bucket: bucket, cancel: func() { release(); cancel() }}
	f.stall = time.AfterFunc(fetchStall, f.cancel)
	if f.content, err = store.Get(bounded, name); err != nil {
		f.stall.Stop()
		f.cancel()
		return nil, fetchError(bucket, name, err)
	}
	info, err := f.content.Info()
	if err != nil {
		return nil, errors.Join(fetchError(bucket, name, err), f.Close())
	}
	f.Object = Object{Name: name, Size: int64(info.Size), Digest: info.Digest, Modified: info.ModTime} //nolint:gosec // no object has 8 EiB
	return f, nil
}

func fetchError(bucket, name string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrBucketNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		err = bus.ErrNotFound
	case errors.Is(err, jetstream.ErrDigestMismatch):
		err = ErrDigest
	}
	return fmt.Errorf("object %s in bucket %s: %w", name, bucket, err)
}

// Read reads the content.
func (f *Fetched) Read(p []byte) (int, error) {
	n, err := f.content.Read(p)
	if n > 0 {
		f.stall.Reset(fetchStall)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fetchError(f.bucket, f.Name, err)
	}
	return n, err
}

// Close ends the reading.
func (f *Fetched) Close() error {
	f.stall.Stop()
	err := f.content.Close()
	f.cancel()
	return err
}

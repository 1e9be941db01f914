package app

import (
	"context"
	"errors"
	"io"

	"dbrunner/internal/bulk"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/objects"
)

var _ bulk.Inputs = (*paramsStore)(nil)

// paramsStore is the bucket of parameters that have no room in jobs.
type paramsStore struct{ bucket *objects.Bucket }

// Ready waits for a link to the servers.
func (s *paramsStore) Ready(ctx context.Context) error { return s.bucket.Ready(ctx) }

// Open starts to read an object, as long as the context lives.
func (s *paramsStore) Open(ctx context.Context, name string) (bulk.Input, error) {
	r, err := s.bucket.Open(ctx, name)
	if errors.Is(err, bus.ErrNotFound) {
		err = errors.Join(bulk.ErrNoInput, err)
	}
	if err != nil {
		return nil, err
	}
	return &paramsObject{ReadCloser: r.Reader(ctx), digest: r.Digest}, nil
}

// paramsObject is an object that is read.
type paramsObject struct {
	io.ReadCloser

	digest string
}

// Digest is the content's, as the object's description has it.
func (o *paramsObject) Digest() string { return o.digest }

// Read reads the content.
func (o *paramsObject) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	switch {
	case errors.Is(err, objects.ErrDigest):
		err = errors.Join(bulk.ErrInputDamaged, err)
	case errors.Is(err, bus.ErrNotFound): // its chunks have gone meanwhile
		err = errors.Join(bulk.ErrNoInput, err)
	}
	return n, err
}

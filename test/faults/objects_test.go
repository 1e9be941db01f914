package main

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/test/faults/check"
)

// An object that lacks chunks is a problem of that object. The library would wait for the first one until the whole reading ends.
func TestObjectsWithoutTheirChunks(t *testing.T) {
	t.Parallel()
	const rows = "i\n1\n2\n"
	ctx := t.Context()
	_, js := bustest.Plain(t, bustest.Server(t).ClientURL())
	store, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "SEED_ROWS"})
	require.NoError(t, err)
	_, err = store.PutBytes(ctx, "whole.csv", []byte(rows))
	require.NoError(t, err)
	lost, err := store.PutBytes(ctx, "lost.csv", []byte(rows))
	require.NoError(t, err)
	stream, err := js.Stream(ctx, "OBJ_SEED_ROWS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(ctx, jetstream.WithPurgeSubject("$O.SEED_ROWS.C."+lost.NUID)))

	h := &check.History{Objects: map[string]check.Object{}}
	require.NoError(t, (&round{namespace: "seed", js: js}).collectObjects(ctx, h))
	require.Equal(t, map[string]check.Object{
		"whole.csv": {Rows: 2, Size: int64(len(rows)), Digest: digest([]byte(rows))},
		"lost.csv":  {Problem: "0 of 1 chunks are there"},
	}, h.Objects)
}

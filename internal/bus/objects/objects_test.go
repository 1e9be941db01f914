package objects_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/objects"
	"dbrunner/internal/bus/topology"
)

func TestObjectsAreThoseOfTheClientLibraries(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	params := objects.Params(b.Conn)
	rows, err := b.JS.ObjectStore(t.Context(), "DBRUNNER_ROWS")
	require.NoError(t, err)
	library, err := b.JS.ObjectStore(t.Context(), "DBRUNNER_PARAMS")
	require.NoError(t, err)
	for _, size := range []int{0, 1, 128 << 10, 9<<20 + 17} {
		data, ours := bustest.Content(size), fmt.Sprint("ours", size)
		o := bustest.WriteObject(t, objects.Rows(b.Conn), ours, data)
		got, err := rows.GetBytes(t.Context(), ours)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		info, err := rows.GetInfo(t.Context(), ours)
		require.NoError(t, err)
		require.Equal(t, o.Digest, info.Digest)
		require.Equal(t, o.Size, int64(info.Size)) //nolint:gosec // a small one

		theirs, err := library.PutBytes(t.Context(), "theirs", data)
		require.NoError(t, err)
		require.Equal(t, o.Digest, theirs.Digest)
		for name, bucket := range map[string]*objects.Bucket{ours: objects.Rows(b.Conn), "theirs": params} {
			got, err = bustest.ReadObject(t, bucket, name)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got), "%s of %d bytes", name, size)
		}
	}
	_, err = rows.PutBytes(t.Context(), "theirs", nil)
	require.ErrorContains(t, err, "10111", "no other user replaces rows")
	require.NoError(t, library.Delete(t.Context(), "theirs"))
	_, err = bustest.ReadObject(t, params, "theirs")
	require.ErrorIs(t, err, bus.ErrNotFound)
	_, err = bustest.ReadObject(t, params, "never")
	require.ErrorIs(t, err, bus.ErrNotFound)
}

func TestNothingOfAnObjectIsSeenBeforeItsEnd(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	rows := objects.Rows(b.Conn)
	w, err := rows.Create(bustest.Database, "half")
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), bustest.Content(1<<20)))
	o, err := rows.Lookup(t.Context(), "half")
	require.NoError(t, err)
	require.Nil(t, o)
	require.NoError(t, w.Discard(t.Context()))
	requireEmpty(t, b, "DBRUNNER_ROWS")

	bustest.WriteObject(t, rows, "whole", bustest.Content(1<<20))
	o, err = rows.Lookup(t.Context(), "whole")
	require.NoError(t, err)
	complete, err := rows.Complete(t.Context(), o)
	require.NoError(t, err)
	require.True(t, complete)
	require.NoError(t, rows.Remove(t.Context(), o))
	complete, err = rows.Complete(t.Context(), o)
	require.NoError(t, err)
	require.False(t, complete)
	requireEmpty(t, b, "DBRUNNER_ROWS")
}

func requireEmpty(t *testing.T, b *bustest.Bundle, bucket string) {
	t.Helper()
	stream, err := b.JS.Stream(t.Context(), "OBJ_"+bucket)
	require.NoError(t, err)
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.State.Msgs)
}

func TestADamagedObjectIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	rows := objects.Rows(b.Conn)
	bustest.WriteObject(t, rows, "damaged", bustest.Content(1<<20))
	stream, err := b.JS.Stream(t.Context(), "OBJ_DBRUNNER_ROWS")
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), 3))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	r, err := rows.Open(ctx, "damaged")
	require.NoError(t, err)
	_, err = io.ReadAll(r.Reader(ctx))
	require.Error(t, err, "a chunk is missing")

	// Chunks of another writer under our mark: each is there, and the sum is another one.
	info := described(t, b, "damaged")
	_, err = b.JS.Publish(t.Context(), "$O.DBRUNNER_ROWS.C."+info.NUID, bustest.Content(128<<10))
	require.NoError(t, err)
	_, err = bustest.ReadObject(t, rows, "damaged")
	require.ErrorIs(t, err, objects.ErrDigest)
}

func described(t *testing.T, b *bustest.Bundle, name string) *jetstream.ObjectInfo {
	t.Helper()
	library, err := b.JS.ObjectStore(t.Context(), "DBRUNNER_ROWS")
	require.NoError(t, err)
	info, err := library.GetInfo(t.Context(), name)
	require.NoError(t, err)
	return info
}

// A purge of the chunks in the middle of writing is noticed before anybody sees the object.
func TestAnObjectWithAHoleIsNotCompleted(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	w, err := objects.Rows(b.Conn).Create(bustest.Database, "hole")
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), bustest.Content(5<<20))) // more than may wait for its answer
	stream, err := b.JS.Stream(t.Context(), "OBJ_DBRUNNER_ROWS")
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), 2))
	_, err = w.Close(t.Context())
	require.ErrorContains(t, err, "39 of 40 chunks are there")
	require.NoError(t, w.Discard(t.Context()))
	requireEmpty(t, b, "DBRUNNER_ROWS")
}

func TestAFullBucketRefusesAndKeepsNothing(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Rows.MaxBytes, top.Rows.MaxAge = 2<<20, 48*time.Hour
	b := bustest.SetupOn(t, bustest.Server(t), top)
	rows := objects.Rows(b.Conn)
	w, err := rows.Create(bustest.Database, "large")
	require.NoError(t, err)
	err = w.Write(t.Context(), bustest.Content(8<<20))
	if err == nil {
		_, err = w.Close(t.Context())
	}
	require.ErrorIs(t, err, bus.ErrStreamFull)
	require.NoError(t, w.Discard(t.Context()))
	requireEmpty(t, b, "DBRUNNER_ROWS")
	bustest.WriteObject(t, rows, "small", bustest.Content(1<<20))
}

func TestAServerThatGoesInTheMiddleOfAnObject(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	rows := objects.Rows(b.Conn)
	w, err := rows.Create(bustest.Database, "cut")
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), bustest.Content(6<<20)))
	b.Node.Stop()
	for err == nil { // what was on its way may have been stored; the rest has nowhere to go
		err = w.Write(t.Context(), bustest.Content(1<<20))
	}
	b.Node.Restart()
	require.NoError(t, w.Discard(t.Context()))
	requireEmpty(t, b, "DBRUNNER_ROWS")
	data := bustest.Content(6 << 20)
	bustest.WriteObject(t, rows, "again", data)
	got, err := bustest.ReadObject(t, rows, "again")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

func TestAnObjectOfACluster(t *testing.T) {
	t.Parallel()
	nodes := bustest.Cluster(t, 3)
	conn, _ := bustest.Connect(t, nodes.URL())
	top := bustest.Topology()
	top.Replicas = 3
	require.NoError(t, topology.Manage(t.Context(), conn, top))
	plain, _ := bustest.Plain(t, nodes.URL())
	data := bustest.Content(9 << 20)
	w, err := objects.Rows(conn).Create(bustest.Database, "moving")
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), data[:4<<20]))
	nodes.StepDownStream(plain, "OBJ_DBRUNNER_ROWS")
	err = w.Write(t.Context(), data[4<<20:])
	if err == nil {
		_, err = w.Close(t.Context())
	}
	if err != nil { // chunks have lost their answers: the object is written again
		require.NoError(t, w.Discard(t.Context()))
		bustest.WriteObject(t, objects.Rows(conn), "moving", data)
	}
	got, err := bustest.ReadObject(t, objects.Rows(conn), "moving")
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

func TestSweepOfObjects(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	rows := objects.Rows(b.Conn)
	bustest.WriteObject(t, rows, "kept", bustest.Content(300<<10))
	left, err := rows.Create(bustest.Database, "left")
	require.NoError(t, err)
	require.NoError(t, left.Write(t.Context(), bustest.Content(300<<10)))
	other, err := rows.Create("other", "left")
	require.NoError(t, err)
	require.NoError(t, other.Write(t.Context(), bustest.Content(300<<10)))
	sweep := rows.Sweep()
	ours := func(group string) bool { return group == bustest.Database }

	n, err := sweep.Abandoned(t.Context(), time.Hour, ours)
	require.NoError(t, err)
	require.Zero(t, n, "none is old enough")
	require.Eventually(t, func() bool {
		n, err := sweep.Abandoned(t.Context(), 10*time.Millisecond, ours)
		require.NoError(t, err)
		return n == 1
	}, 5*time.Second, 20*time.Millisecond)
	_, err = left.Close(t.Context())
	require.ErrorContains(t, err, "chunks are there", "a writer that lives on notices")
	_, err = other.Close(t.Context())
	require.NoError(t, err)
	for range 2 {
		objects, err := sweep.Objects(t.Context())
		require.NoError(t, err)
		require.Len(t, objects, 2)
		for _, o := range objects {
			require.Contains(t, []string{"kept", "left"}, o.Name)
			require.NotZero(t, o.Modified)
		}
	}
}

// A user who may write descriptions cannot make a reader read another stream's subjects or endlessly.
func TestDescriptionsThatLie(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	params := objects.Params(b.Conn)
	bustest.WriteObject(t, params, "p", bustest.Content(1000))
	for name, lie := range map[string]string{
		"no JSON":  `{`,
		"wildcard": `{"name":"p","bucket":"DBRUNNER_PARAMS","nuid":">","size":1,"chunks":1,"digest":"SHA-256="}`,
		"link":     `{"name":"p","nuid":"x","options":{"link":{"bucket":"DBRUNNER_ROWS","name":"q"}}}`,
		"no mark":  `{"name":"p","bucket":"DBRUNNER_PARAMS","nuid":"","size":1,"chunks":1,"digest":"SHA-256="}`,
	} {
		_, err := b.JS.Publish(t.Context(), "$O.DBRUNNER_PARAMS.M.cA==", []byte(lie))
		require.NoError(t, err)
		_, err = params.Open(t.Context(), "p")
		require.Error(t, err, name)
		require.NotErrorIs(t, err, bus.ErrNotFound, name)
	}
	listed, err := params.Sweep().Objects(t.Context())
	require.NoError(t, err, "it does not affect the others")
	require.Empty(t, listed)
	_, err = params.Create("a.b", "x")
	require.ErrorIs(t, err, bus.ErrSubject)
	_, err = params.Create(bustest.Database, "")
	require.ErrorIs(t, err, bus.ErrSubject)
}

// An object's description is never replaced: a second writer of its name gives up, and the first one's object stays.
func TestAnObjectIsNotWrittenAgain(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	bustest.WriteObject(t, objects.Rows(b.Conn), "once", bustest.Content(1000))
	w, err := objects.Rows(b.Conn).Create(bustest.Database, "once")
	require.NoError(t, err)
	require.NoError(t, w.Write(t.Context(), bustest.Content(2000)))
	_, err = w.Close(t.Context())
	require.ErrorContains(t, err, "an object of this name exists")
	require.NoError(t, w.Discard(t.Context()))
	got, err := bustest.ReadObject(t, objects.Rows(b.Conn), "once")
	require.NoError(t, err)
	require.Len(t, got, 1000)
}

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

// The chunks of all objects that are written at the same time share the places of one connection.
func TestManyObjectsAreWrittenAtTheSameTime(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	few, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance, o.MaxInFlight = "few", 32 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	data := bustest.Content(5 << 20)
	var writers errgroup.Group
	for i := range 4 {
		writers.Go(func() error {
			w, err := objects.Rows(few).Create(bustest.Database, fmt.Sprint("object", i))
			if err != nil {
				return err
			}
			if err := w.Write(ctx, data); err != nil {
				return err
			}
			_, err = w.Close(ctx)
			return err
		})
	}
	require.NoError(t, writers.Wait(), "they wait for each other")
}

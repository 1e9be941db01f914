package objects

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
	"dbrunner/internal/report"
)

const (
	// chunkSize is what one message of an object holds, bytes: what the client libraries write.
	chunkSize = 128 << 10
	// maxChunksOut is how many chunks of an object wait for their answer at most. The server refuses what comes faster
	// than it stores.
	maxChunksOut = 32
	// lateAnswers is how long the answers to chunks of an object are awaited that cannot be completed.
	lateAnswers = time.Second
)

// digestOpening names the algorithm before an object's sum.
const digestOpening = "SHA-256="

// Writer writes one object. It is for one goroutine. The owner calls Close or Discard.
type Writer struct {
	bucket  *Bucket
	name    string
	mark    string
	sum     hash.Hash
	chunk   []byte // not sent yet
	size    int64
	chunks  int64
	out     []bus.Posted // chunks that wait for their answer, oldest first
	done    *Object      // closed
	foreign bool         // the description under the name is another object's
}

// Create starts an object. Nothing of it is visible before Close. group starts the last part of its chunks'
// subject, which is the writer's own otherwise: it determines who may read the chunks of a group.
func (b *Bucket) Create(group, name string) (*Writer, error) {
	if err := bus.CheckName("group", group); err != nil {
		return nil, err
	}
	if _, err := encodeObjectName(name); err != nil {
		return nil, err
	}
	return &Writer{
		bucket: b, name: name, mark: group + "." + rand.Text(), sum: sha256.New(), chunk: make([]byte, 0, chunkSize),
		out: make([]bus.Posted, 0, maxChunksOut),
	}, nil
}

// Write adds to the object. It waits where the server is slower. After an error the object cannot be completed.
func (w *Writer) Write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := copy(w.chunk[len(w.chunk):cap(w.chunk)], p)
		w.chunk, p = w.chunk[:len(w.chunk)+n], p[n:]
		if len(w.chunk) == cap(w.chunk) {
			if err := w.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// send sends the chunk that is full. One whose answer is lost cannot be sent again: it might come twice, or behind others.
func (w *Writer) send(ctx context.Context) error {
	if len(w.out) == cap(w.out) {
		if err := w.settle(ctx, cap(w.out)-1); err != nil {
			return w.failed(err)
		}
	}
	msg := nats.Msg{Subject: bus.ChunkSubject(w.bucket.name, w.mark), Data: w.chunk}
	sent, err := w.bucket.conn.Post(ctx, &msg, func() error { return w.settle(ctx, 0) })
	if err != nil {
		return w.failed(err)
	}
	w.out = append(w.out, sent)
	w.sum.Write(w.chunk)
	w.size += int64(len(w.chunk))
	w.chunks++
	w.chunk = w.chunk[:0]
	return nil
}

// settle waits until at most so many chunks wait for their answer.
func (w *Writer) settle(ctx context.Context, most int) error {
	for len(w.out) > most {
		oldest := w.out[0]
		w.out = w.out[:copy(w.out, w.out[1:])]
		if err := oldest.Wait(ctx); err != nil {
			w.giveUp(ctx)
			return err
		}
	}
	return nil
}

// giveUp waits for the answers to what is still on its way, of an object that cannot be completed.
func (w *Writer) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lateAnswers)
	defer cancel()
	for _, sent := range w.out {
		_ = sent.Wait(ctx) // whatever became of it
	}
	w.out = w.out[:0]
}

func (w *Writer) failed(err error) error {
	return fmt.Errorf("write object %s to bucket %s: %w", w.name, w.bucket.name, err)
}

// Close completes the object: when it returns it is durable, and everybody sees the whole.
func (w *Writer) Close(ctx context.Context) (*Object, error) {
	if len(w.chunk) > 0 {
		if err := w.send(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.settle(ctx, 0); err != nil {
		return nil, w.failed(err)
	}
	// Another runner may have mistaken our chunks for those of a dead writer.
	n, err := w.bucket.count(ctx, w.mark)
	if err != nil {
		return nil, err
	}
	if n != w.chunks {
		return nil, w.failed(fmt.Errorf("%d of %d chunks are there", n, w.chunks))
	}
	w.done = &Object{
		Name: w.name, Size: w.size, Digest: digestOpening + base64.URLEncoding.EncodeToString(w.sum.Sum(nil)),
		chunks: w.chunks, mark: w.mark,
	}
	return w.done, w.describe(ctx)
}

// describe stores the description, once: an object is never written again under its name. That the name is taken may be
// our own earlier attempt, whose answer was lost.
func (w *Writer) describe(ctx context.Context) error {
	encoded, err := encodeObjectName(w.name)
	if err != nil {
		return err
	}
	description, err := json.Marshal(jetstream.ObjectInfo{
		ObjectMeta: jetstream.ObjectMeta{Name: w.name, Opts: &jetstream.ObjectMetaOptions{ChunkSize: chunkSize}},
		Bucket:     w.bucket.name, NUID: w.mark, Digest: w.done.Digest,
		Size: uint64(w.size), Chunks: uint32(w.chunks), //nolint:gosec // 2^32 chunks are 512 TiB
	})
	if err != nil {
		return w.failed(err)
	}
	msg := nats.Msg{
		Subject: bus.MetaSubject(w.bucket.name, encoded), Data: description,
		Header: nats.Header{bus.HeaderExpectedSequence: {"0"}},
	}
	verdict, err := w.bucket.conn.PublishFirst(ctx, &msg)
	switch {
	case err != nil:
		return w.failed(err)
	case verdict == report.Full:
		return w.failed(bus.ErrStreamFull)
	case verdict == report.Taken:
		return w.described(ctx)
	}
	return nil
}

// described checks that the description under the object's name is our own.
func (w *Writer) described(ctx context.Context) error {
	o, err := w.bucket.Lookup(ctx, w.name)
	if err == nil && (o == nil || o.mark != w.mark) {
		w.foreign, err = true, errNameTaken
	}
	if err != nil {
		return w.failed(err)
	}
	return nil
}

// errNameTaken: there is another object of the name.
var errNameTaken = errors.New("an object of this name exists already")

// Discard removes what was written, complete or not. The context bounds the trial: what it leaves behind is removed by
// Abandoned, or by its age.
func (w *Writer) Discard(ctx context.Context) error {
	w.giveUp(ctx) // what is on its way would come after the removal
	if w.chunks == 0 && w.done == nil {
		return nil
	}
	if w.foreign {
		return w.bucket.purge(ctx, bus.ChunkSubject(w.bucket.name, w.mark))
	}
	return w.bucket.Remove(ctx, &Object{Name: w.name, mark: w.mark})
}

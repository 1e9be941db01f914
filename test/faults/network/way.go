// Package network has ways and links that carry TCP between programs and fail when the fault bench wants it: lost in one direction or both, slow, cut or held.
package network

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Way is a stretch of the network that can fail in one direction, in both, or be slow. It carries TCP, so what it loses is sent again:
// a loss is a delay of all that follows, as the kernels at both ends would make it.
type Way struct {
	listen net.Listener
	target string
	wg     sync.WaitGroup
	ctx    context.Context //nolint:containedctx // the end of the way, which all its connections share
	end    context.CancelFunc

	mu    sync.Mutex
	there direction // from the one that connects
	back  direction
	delay time.Duration // of each piece
	loss  float64       // the share of the pieces that are sent again
}

// direction is open, or closed until the channel is.
type direction chan struct{}

// resent is how long it takes until a lost piece is sent again: the least that Linux waits for.
const resent = 200 * time.Millisecond

// underWay is how many pieces may be under way at a time.
const underWay = 256

// NewWay returns a way to a target, on a port of its own.
func NewWay(target string) (*Way, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Way{listen: l, target: target}
	w.ctx, w.end = context.WithCancel(context.Background())
	w.wg.Go(w.accept)
	return w, nil
}

// Address is where the way starts.
func (w *Way) Address() string { return w.listen.Addr().String() }

// Lose lets nothing through in these directions, for connections that are open and new ones, until Restore.
func (w *Way) Lose(there, back bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if there && w.there == nil {
		w.there = make(direction)
	}
	if back && w.back == nil {
		w.back = make(direction)
	}
}

// Slow delays each piece in both directions, and loses a share of them.
func (w *Way) Slow(delay time.Duration, loss float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay, w.loss = delay, loss
}

// Restore makes the way whole. What was held arrives.
func (w *Way) Restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range []*direction{&w.there, &w.back} {
		if *d != nil {
			close(*d)
			*d = nil
		}
	}
	w.delay, w.loss = 0, 0
}

// Close ends the way and all its connections.
func (w *Way) Close() {
	w.end()
	_ = w.listen.Close()
	w.wg.Wait()
}

func (w *Way) accept() {
	for {
		from, err := w.listen.Accept()
		if err != nil {
			return
		}
		w.wg.Go(func() { w.serve(from) })
	}
}

// serve carries one connection until one side or the way ends.
func (w *Way) serve(from net.Conn) {
	to, err := net.DialTimeout("tcp", w.target, 5*time.Second)
	if err != nil {
		_ = from.Close()
		return
	}
	ctx, end := context.WithCancel(w.ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() {
		_ = from.Close()
		_ = to.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { w.carry(ctx, end, to, from, &w.there) })
	both.Go(func() { w.carry(ctx, end, from, to, &w.back) })
	both.Wait()
}

// piece is what was read at a time, and when it arrives.
type piece struct {
	data []byte
	at   time.Time
}

// carry carries one direction: what has been read is under way while more is read.
func (w *Way) carry(ctx context.Context, end context.CancelFunc, to, from net.Conn, d *direction) {
	pieces := make(chan piece, underWay)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(pieces)
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				select {
				case pieces <- piece{append([]byte(nil), buf[:n]...), time.Now().Add(w.takes())}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for p := range pieces {
		if w.pass(ctx, d, p.at) != nil {
			break
		}
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	end() // both directions go together
	for range pieces {
	}
	reader.Wait()
}

// takes is how long a piece is under way.
func (w *Way) takes() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.delay
	for w.loss > 0 && rand.Float64() < w.loss {
		d += resent
	}
	return d
}

// pass waits for a piece's time, and while its direction is closed.
func (w *Way) pass(ctx context.Context, d *direction, at time.Time) error {
	arrival := time.NewTimer(time.Until(at))
	defer arrival.Stop()
	select {
	case <-arrival.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		w.mu.Lock()
		closed := *d
		w.mu.Unlock()
		if closed == nil {
			return nil
		}
		select {
		case <-closed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"dbrunner/internal/config"
)

// Sampling of equal entries: of each message the first hundred within a second are written, then each hundredth, so
// that a flood of failing jobs costs no more than that.
const (
	sampleFirst = 100
	sampleThen  = 100
)

// newLogger returns a logger that writes to out, its level, which may be changed at any time, and the function that
// writes what is left and ends it.
func newLogger(cfg *config.Log, out io.Writer) (*zap.Logger, zap.AtomicLevel, func(), error) {
	level, err := zap.ParseAtomicLevel(cfg.Level)
	if err != nil {
		return nil, level, nil, fmt.Errorf("log.level: %w", err)
	}
	c := zap.NewProductionEncoderConfig()
	c.TimeKey = "time"
	c.EncodeTime = func(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
		enc.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	c.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if cfg.Format == "console" {
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(c)
	}
	lines := newLineWriter(out, zap.New(zapcore.NewCore(encoder.Clone(), zapcore.AddSync(out), level)))
	core := zapcore.NewSamplerWithOptions(zapcore.NewCore(encoder, lines, level), time.Second, sampleFirst, sampleThen)
	return zap.New(core, zap.AddCaller(), zap.ErrorOutput(lines)), level, lines.close, nil
}

const (
	// maxLines is how many lines may wait for the log to take them.
	maxLines = 4096
	// closeLines bounds how long the end of the process waits for them.
	closeLines = 2 * time.Second
)

// lineWriter writes lines in a goroutine of its own, so that a log which takes nothing (its reader stopped or died, its
// disk is full) holds up no job. Lines for which there is no room, or which could not be written, are counted, and their
// number is logged as soon as the log takes lines again.
type lineWriter struct {
	out   io.Writer
	loss  *zap.Logger // writes to out directly
	lines chan []byte
	lost  atomic.Int64
	stop  chan struct{}
	done  chan struct{}
}

// newLineWriter starts a writer. The owner calls close.
func newLineWriter(out io.Writer, loss *zap.Logger) *lineWriter {
	w := &lineWriter{
		out: out, loss: loss, lines: make(chan []byte, maxLines), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run()
	return w
}

// Write takes one line. It neither blocks nor fails.
func (w *lineWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- bytes.Clone(line):
	default:
		w.lost.Add(1)
	}
	return len(line), nil
}

// Sync is part of zapcore.WriteSyncer; close waits for the lines.
func (w *lineWriter) Sync() error { return nil }

func (w *lineWriter) run() {
	defer close(w.done)
	for {
		select {
		case line := <-w.lines:
			w.write(line)
		case <-w.stop:
			for {
				select {
				case line := <-w.lines:
					w.write(line)
				default:
					return
				}
			}
		}
	}
}

func (w *lineWriter) write(line []byte) {
	n, err := w.out.Write(line)
	if err != nil {
		w.lost.Add(1)
		if n > 0 { // a full disk takes a part: the next line starts a new one
			_, _ = w.out.Write([]byte("\n"))
		}
		return
	}
	if lost := w.lost.Swap(0); lost > 0 {
		w.loss.Warn("log lines lost", zap.Int64("lines", lost))
	}
}

// close writes what waits and ends the goroutine. A log that takes nothing keeps it for a moment only; the process ends
// next.
func (w *lineWriter) close() {
	close(w.stop)
	select {
	case <-w.done:
	case <-time.After(closeLines):
	}
}

package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/bus/bustest"
)

// FuzzArguments: the arguments of a call are an object without request_id, or the error names no value of theirs.
func FuzzArguments(f *testing.F) {
	for _, seed := range []string{`{"a":1,"request_id":"r"}`, `null`, ``, `[]`, `{"request_id":7}`, `{"request_id":"","a":{"b":[]}}`, "{\"\xff\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		given, err := readArguments(raw)
		if err != nil {
			return
		}
		require.NotContains(t, given.params, requestID)
		require.LessOrEqual(t, len(given.requestID), maxRequestID)
		_, err = json.Marshal(given.params)
		require.NoError(t, err)
	})
}

type written struct{ bytes.Buffer }

func (*written) Close() error { return nil }

// FuzzProtocol: whatever a client writes, the server writes lines of JSON and ends when the client leaves.
func FuzzProtocol(f *testing.F) {
	const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}` + "\n"
	for _, seed := range []string{
		hello + `{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n" + `{"jsonrpc":"2.0","id":2,"method":"tools/list"}` + "\n",
		hello + `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"pay","arguments":{"a":1}}}` + "\n",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call"}` + "\n", "[]\n", "[[[[\n", "\xff\n", hello + hello, `{"jsonrpc":"2.0","id":{},"result":1}` + "\n",
	} {
		f.Add([]byte(seed))
	}
	nc, err := nats.Connect(bustest.Server(f).ClientURL())
	require.NoError(f, err)
	f.Cleanup(nc.Close)
	f.Fuzz(func(t *testing.T, in []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out := &written{}
		_ = Serve(ctx, Options{NATS: nc, Database: "shop", Version: "1", Wait: time.Second, Logger: zap.NewNop()}, io.NopCloser(bytes.NewReader(in)), out)
		require.NoError(t, ctx.Err(), "the server goes on without its client")
		for line := range bytes.Lines(out.Bytes()) {
			require.True(t, json.Valid(line), "%q", line)
		}
	})
}

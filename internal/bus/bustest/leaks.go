package bustest

import (
	"testing"

	"go.uber.org/goleak"
)

// IgnorePublisher leaves a goroutine out of a search for leaks that the NATS library can lose in a test that puts an object
// with it: the library removes its channel of connection states after each put, and a goroutine that only starts then waits
// on none for good (nats.go 1.55, jetStream.CleanupPublisher). Runners put objects with package bus, which does not use it.
func IgnorePublisher() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
}

// VerifyMain runs a package's tests and fails when they leave goroutines behind. A node of nats-server 2.15.2 that is shut
// down while it opens a stream (restarts of a cluster do so) may leave that stream's store behind, and with it the server's
// own clock. Neither is ours to end.
func VerifyMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		IgnorePublisher(),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

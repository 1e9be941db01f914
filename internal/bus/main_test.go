package bus_test

import (
	"testing"

	"go.uber.org/goleak"

	"dbrunner/internal/bus/bustest"
)

func TestMain(m *testing.M) {
	// A node of nats-server 2.15.2 that is shut down while it opens a stream (restarts of a cluster do so) may leave that
	// stream's store behind, and with it the server's own clock. Neither is ours to end.
	goleak.VerifyTestMain(m,
		bustest.IgnorePublisher(),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

const database = bustest.Database

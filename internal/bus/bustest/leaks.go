package bustest

import "go.uber.org/goleak"

// IgnorePublisher leaves a goroutine out of a search for leaks that the NATS library can lose in a test that puts an object
// with it: the library removes its channel of connection states after each put, and a goroutine that only starts then waits
// on none for good (nats.go 1.55, jetStream.CleanupPublisher). Runners put objects with package bus, which does not use it.
func IgnorePublisher() goleak.Option {
	return goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect")
}

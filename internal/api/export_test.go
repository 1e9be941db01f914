package api

// What tests use of the package's own.
type Examined = examined

var (
	EncodeRunning = encodeRunning
	Examine       = examine
)

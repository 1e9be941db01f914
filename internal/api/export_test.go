package api

// EncodeRunning is encodeRunning, for tests.
var EncodeRunning = encodeRunning

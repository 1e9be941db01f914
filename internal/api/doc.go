// Package api answers the requests of the NATS service: it lists databases, returns their health, runs a job and answers
// with its result, and keeps requests to cancel.
package api

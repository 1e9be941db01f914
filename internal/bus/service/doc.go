// Package service answers requests to runners over the NATS service API: it bounds, counts and routes them, and ends in order.
package service

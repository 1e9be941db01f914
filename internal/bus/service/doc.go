// Package service answers requests to runners over the NATS service API, and asks them.
package service

package main

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"dbrunner/client"
)

// Job is a message for the runners, ready to be published. It can be written to the state file.
type Job struct {
	ID   string          `json:"id"`
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Client publishes jobs for one database and awaits their results.
type Client struct {
	*client.Client
	nc       *nats.Conn
	database string
}

// NewClient returns a client that uses the connection, which stays the caller's.
func NewClient(nc *nats.Conn, namespace, database string) (*Client, error) {
	c, err := client.New(nc, client.Options{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	return &Client{Client: c, nc: nc, database: database}, nil
}

// Publish returns when the stream has the job. The id is in the header too, so that a repeated publish is deduplicated by
// the server already; later than that the runner knows the id.
func (c *Client) Publish(ctx context.Context, job *Job) error {
	_, err := c.Submit(ctx, &client.Job{Database: c.database, Kind: job.Kind, ID: job.ID, Body: job.Body})
	return err
}

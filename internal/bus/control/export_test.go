package control

import (
	"context"
	"time"

	"dbrunner/internal/bus"
)

// For tests of how a bucket is followed.
var (
	ErrNoLink = errNoLink
	LimitOf   = limitOf
)

// Follow follows the bucket of cancel requests with a poll of the test's own.
func Follow(ctx context.Context, conn *bus.Conn, every time.Duration, poll func(ctx context.Context, failed int) error) error {
	return newFollower(conn, "the test's bucket").follow(ctx, conn.Subjects().Control(">"), every, poll)
}

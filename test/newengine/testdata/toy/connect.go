package toy

import (
	"context"

	"dbrunner/internal/db"
)

// begin takes the only session and asks whether the work is still wanted.
func (d *Database) begin(ctx context.Context, call *db.Call) (*session, error) {
	if err := d.pool.acquire(ctx); err != nil {
		return nil, err
	}
	if call != nil && call.Begin != nil {
		if err := call.Begin(); err != nil {
			d.pool.release()
			return nil, err
		}
	}
	return d.newSession(), nil
}

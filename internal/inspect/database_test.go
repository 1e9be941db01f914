package inspect

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/manager"
)

// A check whose time is over reports that, and not the error by which it was stopped.
func TestFailedChecks(t *testing.T) {
	t.Parallel()
	d := &target{Database: &manager.Database{Name: "shop"}}
	err := errors.New("the connection was lost; look at the network")
	f := d.failed(t.Context(), db.PartLedger, "past the pooler: ", err)
	require.Equal(t, "past the pooler: the connection was lost", f.Text)
	require.Equal(t, "look at the network", f.Remedy)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	f = d.failed(over, db.PartLedger, "past the pooler: ", err)
	require.Equal(t, "past the pooler: not checked in time", f.Text)
	require.Equal(t, db.GradeFault, f.Grade)
}

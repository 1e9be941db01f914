package client_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// TestPausesAreRecords: they are created once, and ended as they were read.
func TestPausesAreRecords(t *testing.T) {
	t.Parallel()
	shop, other := contract.PauseTarget{Database: "shop"}, contract.PauseTarget{Database: "other"}
	node := bustest.Server(t, bustest.Users(
		&natsserver.User{Username: "admin", Password: "x"},
		&natsserver.User{Username: "shop", Password: "x", Permissions: &natsserver.Permissions{Publish: &natsserver.SubjectPermission{
			Allow: []string{"$JS.API.STREAM.INFO.*", "$JS.API.DIRECT.GET.>", "$JS.API.STREAM.MSG.GET.*", "$KV.DBRUNNER_STATE.pause.shop"},
		}}}))
	nc, _ := bustest.Plain(t, node.ClientURL(), nats.UserInfo("shop", "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	c := newClient(t, nc)
	_, err := client.ReadPause(t.Context(), c, shop)
	require.ErrorIs(t, err, client.ErrNoState)
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "x" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))

	none, err := client.ReadPause(t.Context(), c, shop)
	require.NoError(t, err)
	require.Nil(t, none)
	first, err := client.CreatePause(t.Context(), c, shop, contract.Pause{Reason: "upgrade", By: "ada"})
	require.NoError(t, err)
	_, err = client.CreatePause(t.Context(), c, shop, contract.Pause{Reason: "mine", By: "grace"})
	require.ErrorIs(t, err, client.ErrPauseChanged, "an operator sees first who paused it")
	read, err := client.ReadPause(t.Context(), c, shop)
	require.NoError(t, err)
	require.Equal(t, first, read)
	require.Equal(t, contract.ActivePause{Key: "pause.shop", Revision: first.Revision, Reason: "upgrade", By: "ada"}, *read)
	stale := *first
	stale.Revision++
	require.ErrorIs(t, client.EndPause(t.Context(), c, shop, &stale), client.ErrPauseChanged)
	require.NoError(t, client.EndPause(t.Context(), c, shop, first))
	again, err := client.CreatePause(t.Context(), c, shop, contract.Pause{Reason: "again"})
	require.NoError(t, err)
	require.NoError(t, client.EndPause(t.Context(), c, shop, again))

	bounded, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = client.CreatePause(bounded, c, other, contract.Pause{Reason: "not permitted"})
	require.ErrorIs(t, err, client.ErrDenied)
	require.ErrorContains(t, err, "$KV.DBRUNNER_STATE.pause.other")
	_, err = client.CreatePause(t.Context(), c, contract.PauseTarget{Database: "a.b"}, contract.Pause{})
	require.ErrorIs(t, err, client.ErrSubject)
}

// Promise: of clients that end the same pause at the same moment, on a cluster too, one does, and the others learn that it has changed.
func TestAPauseEndedAtTheSameMoment(t *testing.T) {
	t.Parallel()
	cluster := bustest.Cluster(t, 3)
	top := bustest.Topology()
	top.Replicas = 3
	conn, _ := bustest.Connect(t, cluster.URL())
	require.NoError(t, topology.Manage(t.Context(), conn, top))
	const users, pauses = 6, 50
	var clients []*client.Client
	for range users {
		nc, _ := bustest.Plain(t, cluster.URL())
		clients = append(clients, newClient(t, nc))
	}
	target := contract.PauseTarget{Database: "shop"}
	for range pauses {
		pause, err := client.CreatePause(t.Context(), clients[0], target, contract.Pause{Reason: "upgrade"})
		require.NoError(t, err)
		var all sync.WaitGroup
		var ended atomic.Int64
		for _, c := range clients {
			all.Go(func() {
				if err := client.EndPause(t.Context(), c, target, pause); err == nil {
					ended.Add(1)
				} else if !errors.Is(err, client.ErrPauseChanged) {
					t.Errorf("an error that is no change: %s", err)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, ended.Load())
	}
}

package main

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dbtest"
)

// With SQL Server a plan has what it has without, and jobs of all sorts besides.
func TestDepotAddsToThePlan(t *testing.T) {
	t.Parallel()
	o := &options{jobs: 5000, length: time.Second}
	plain, whole := newPlan(1, "f1", 300, o.length, false), newPlan(1, "f1", 300, o.length, false)
	planDepot(whole, 1, "f1", o)
	again := newPlan(1, "f1", 300, o.length, false)
	planDepot(again, 1, "f1", o)
	require.Equal(t, whole, again, "a seed repeats it")

	for name, q := range plain.requests {
		require.Equal(t, q, whole.requests[name])
	}
	require.Equal(t, plain.messages, slices.DeleteFunc(slices.Clone(whole.messages), func(m message) bool { return plain.requests[m.request.Name] == nil }))
	found := map[string]bool{}
	for name, q := range whole.requests {
		if plain.requests[name] == nil {
			found[q.Class] = true
			require.True(t, q.Database == depot || q.Outbox == depot, name)
		}
	}
	for _, c := range slices.Concat(withoutPostgres(classes()), rare(), orderedClasses(false), []class{{name: "blocker"}, {name: "scheduled"}}) {
		require.True(t, found[c.name], c.name)
	}
	require.False(t, found["renaming"])
}

// Seeds take the faults of a SQL Server in turn only where one is named.
func TestDepotNemesesNeedAServer(t *testing.T) {
	t.Parallel()
	require.Len(t, nemeses(true), len(nemeses(false))+len(depotNemeses()))
	require.ErrorContains(t, checkServer(&options{only: []string{"sqlserver_cut"}}), dbtest.SQLServerVariable)
	require.NoError(t, checkServer(&options{only: []string{"runner_kill"}}))
	require.NoError(t, checkServer(&options{only: []string{"sqlserver_cut"}, sqlserver: "sqlserver://a:b@127.0.0.1:1433"}))
}

// A cut after a message happens also if the server goes away without an answer.
func TestCutAfterAMessageOfAServerThatGoesAway(t *testing.T) {
	t.Parallel()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = target.Close() }()
	proxy, err := dbtest.LaunchTDSProxy(target.Addr().String())
	require.NoError(t, err)
	defer proxy.Close()
	happened := proxy.CutAfter("COMMIT")
	client, err := net.Dial("tcp", proxy.Address())
	require.NoError(t, err)
	defer func() { _ = client.Close() }()
	server, err := target.Accept()
	require.NoError(t, err)
	message := batch("COMMIT")
	_, err = client.Write(message)
	require.NoError(t, err)
	_, err = server.Read(make([]byte, len(message)))
	require.NoError(t, err)
	require.NoError(t, server.Close())
	<-happened
	_, err = client.Read(make([]byte, 1))
	require.Error(t, err)
}

// batch is a message of one packet that runs a text.
func batch(text string) []byte {
	const header, lastPacket, sqlBatch = 8, 1, 1
	message := make([]byte, header, header+2*len(text))
	message[0], message[1] = sqlBatch, lastPacket
	binary.BigEndian.PutUint16(message[2:], uint16(header+2*len(text)))
	for _, c := range text {
		message = binary.LittleEndian.AppendUint16(message, uint16(c))
	}
	return message
}

// A named statement has the types of its database.
func TestTypesOfNamedStatements(t *testing.T) {
	t.Parallel()
	require.Equal(t, catalog["pay"], inWords(shop, catalog["pay"]))
	require.Contains(t, inWords(depot, catalog["pay"]), "amount: {type: int, schema: {type: integer, minimum: 0")
	require.Contains(t, inWords(depot, entering(depot)), "private: {type: nvarchar, schema: {type: string}}")
	require.Equal(t, body{"sql": "EXEC sleep_for '00:00:02.500'"}, sleeping(depot, 2.5))
}

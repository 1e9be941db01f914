package network

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLink(t *testing.T) {
	t.Parallel()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = target.Close() }()
	k, err := NewLink(target.Addr().String())
	require.NoError(t, err)
	defer k.Close()
	client, err := net.Dial("tcp", k.Address())
	require.NoError(t, err)
	server, err := target.Accept()
	require.NoError(t, err)
	buf := make([]byte, 1)
	_, err = client.Write([]byte("a"))
	require.NoError(t, err)
	_, err = server.Read(buf)
	require.NoError(t, err)

	k.Hold()
	_, err = client.Write([]byte("b"))
	require.NoError(t, err)
	require.NoError(t, server.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = server.Read(buf)
	require.Error(t, err, "nothing gets through")
	k.Release()
	require.NoError(t, server.SetReadDeadline(time.Time{}))
	_, err = server.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "b", string(buf), "and nothing is lost")

	k.Cut()
	_, err = server.Read(buf)
	require.Error(t, err)
	_, err = client.Read(buf)
	require.Error(t, err)
}

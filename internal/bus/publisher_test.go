package bus

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

func TestReadPuback(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]Ack{
		`{"stream":"S","seq":1}`:                               {Sequence: 1},
		`{"stream":"S","seq":9999999999999999999}`:             {Sequence: 9999999999999999999},
		`{"stream":"S","seq":18446744073709551615}`:            {Sequence: 18446744073709551615},
		`{"stream":"S","domain":"hub","seq":12}`:               {Sequence: 12},
		`{"stream":"S", "seq":12}`:                             {Sequence: 12},
		`{"stream":"S","seq":12,"duplicate": true}`:            {Sequence: 12, Duplicate: true},
		`{"stream":"S\",\"seq\":5","seq":12,"duplicate":true}`: {Sequence: 12, Duplicate: true},
		`{"seq":12,"stream":"S"}`:                              {Sequence: 12},
	} {
		got, err := readAck(&nats.Msg{Data: []byte(answer)})
		require.NoError(t, err, answer)
		require.Equal(t, want, got, answer)
	}
	_, err := readAck(&nats.Msg{Data: []byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}`)})
	var api *APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, CodeWrongLastSequence, api.ErrCode)
	for _, answer := range []string{``, `{"stream":"S","seq":}`, `{"stream":"S","seq":-1}`, `{"stream":"S","seq":18446744073709551616}`, `+OK`} {
		_, err := readAck(&nats.Msg{Data: []byte(answer)})
		require.Error(t, err, answer)
	}
}

package client_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

// What a dead deadLetter's subject names counts only if the subject is of the dead deadLetter's own database and kind.
func TestJobSubjectOfADeadLetter(t *testing.T) {
	t.Parallel()
	for subject, name := range map[string]string{
		"dbrunner.jobs.shop.call.pay":    "pay",
		"acme.jobs.shop.call.pay":        "pay",
		"dbrunner.jobs.shop.call":        "",
		"dbrunner.jobs.bank.call.pay":    "",
		"dbrunner.jobs.shop.approve.pay": "",
		"dbrunner.results.shop.call.pay": "",
		"":                               "",
	} {
		deadLetter := client.DeadLetter{Database: "shop", Kind: "call", Headers: nats.Header{contract.HeaderSubject: {subject}}}
		require.Equal(t, name, deadLetter.JobSubject().Name, subject)
	}
	for subject, queue := range map[string]string{
		"dbrunner.queues.shop.bulk.call.pay": "bulk", "dbrunner.queues.bank.bulk.call.pay": "", "dbrunner.queues.shop.bulk.query": "",
	} {
		dead := client.DeadLetter{Database: "shop", Kind: "call", Headers: nats.Header{contract.HeaderSubject: {subject}}}
		require.Equal(t, queue, dead.JobSubject().Queue, subject)
	}
}

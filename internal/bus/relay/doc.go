// Package relay publishes rows of outboxes as jobs, and asks the runners of their targets for how long ledgers keep rows.
package relay

package main

// flowMutants are mistakes of calls, queues, outboxes, schedules, pauses and releases.
func flowMutants() []mutant {
	return []mutant{
		{
			name: "call_without_row", what: "a call is committed without its ledger row",
			edits: []edit{{
				"internal/delivery/executor.go", "\t\t\tr.sealed, err = r.seal(a)\n\t\t\treturn r.sealed.row, err\n",
				"\t\t\tr.sealed, err = r.seal(a)\n\t\t\tif r.call != nil {\n\t\t\t\treturn nil, err\n\t\t\t}\n\t\t\treturn r.sealed.row, err\n",
			}},
			only: []string{"runner_kill"}, caught: []string{"effects", "ledger"},
		},
		{
			name: "queue_without_fleet_slots", what: "the consumer of a queue delivers as many jobs as that of any other lane",
			edits: []edit{{
				"internal/manager/queues.go", "jobs.QueueLane(name, q.Slots, q.FleetSlots, q.Ordered, d.Kinds)", "jobs.QueueLane(name, q.Slots, 10_000, q.Ordered, d.Kinds)",
			}},
			only: []string{"none"}, caught: []string{"fleet_slots"},
		},
		{
			name: "queue_job_acknowledged_first", what: "a job of a queue is acknowledged when it starts, so that slots are free and the job is lost with its runner",
			edits: []edit{{
				"internal/worker/process.go", "\tstarted := time.Now()\n\tout := l.opts.Executor.Run(",
				"\tstarted := time.Now()\n\tif l.opts.Queue != \"\" {\n\t\t_ = h.message.Ack()\n\t}\n\tout := l.opts.Executor.Run(",
			}},
			only: []string{"runner_kill"}, caught: []string{"one_result", "fleet_slots"},
		},
		{
			name: "outbox_row_deleted_first", what: "a row of an outbox is deleted before its job is published",
			edits: []edit{{
				"internal/outbox/relay.go", "\tb.publish(ctx, started.Add(r.opts.Claim/2))\n",
				"\t_, _ = r.opts.Source.Delete(ctx, claimed, b.tokens)\n\tb.publish(ctx, started.Add(r.opts.Claim/2))\n",
			}},
			only: []string{"nats_kill"}, caught: []string{"outbox"},
		},
		{
			name: "tick_without_claim", what: "the job of a tick is published without a claim, and the tick is counted afterwards",
			edits: []edit{
				{
					"internal/schedule/decide.go", "\treturn put(&out)\n}\n\n// countEarlier",
					"\treturn Action{Verb: Publish, State: &out, Claim: out.Claim}\n}\n\n// countEarlier",
				},
				{
					"internal/schedule/work.go", "\t\treturn w.publish(ctx, now, a.Claim)\n",
					"\t\tif c := a.Claim; a.State != nil {\n" +
						"\t\t\tsequence, err := store.Publish(ctx, e.id, contract.ScheduleMessageID(e.id.TickID(c.Tick)), e.definition.Body(c.JobID, c.ExpiresAt))\n" +
						"\t\t\tif err != nil {\n\t\t\t\treturn false, err\n\t\t\t}\n" +
						"\t\t\treturn true, w.put(ctx, Confirmed(a.State, e.definition, sequence))\n\t\t}\n" +
						"\t\treturn w.publish(ctx, now, a.Claim)\n",
				},
			},
			only: []string{"nats_kill"}, caught: []string{"ticks"},
		},
		{
			name: "pause_ignored_in_flight", what: "a job that is in flight when its database is paused starts as soon as a connection is free",
			edits: []edit{{
				"internal/worker/inflight.go", "\tcase h.held:\n\t\treturn errPaused\n", "\tcase h.held && false:\n\t\treturn errPaused\n",
			}},
			only: []string{"none"}, caught: []string{"pauses"},
		},
		{
			name: "request_hash_of_another_release", what: "a release hashes requests in another way than the one before, so that it takes its duplicates for other jobs",
			edits: []edit{{"internal/jobs/hash.go", "buf = append(scratch[:0], hashOpening...)", "buf = append(scratch[:0], hashOpening+\" again\"...)"}},
			only:  []string{"upgrade"}, caught: []string{"ends", "id_reuse"},
		},
	}
}

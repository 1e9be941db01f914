package main

import "time"

// orderedMutants are mistakes of ordered queues.
func orderedMutants() []mutant {
	return []mutant{
		{
			name: "ordered_outcome_without_row", what: "a job of an ordered queue that does not succeed is answered without its ledger row",
			edits: []edit{{
				"internal/delivery/earlier.go", "\tif f := r.facts(); !f.recordsFirst() {", "\tif f := r.facts(); !f.recordsFirst() || f.ordered {",
			}},
			only: []string{"none"}, caught: []string{"ordered"},
		},
		{
			name: "failed_head_acknowledged", what: "the message of a job that failed in an ordered queue is acknowledged, so that the next one starts",
			edits: []edit{{
				"internal/worker/order.go", "return t != nil && order.Stays(out.Status) }", "return t != nil && order.Stays(out.Status) && false }",
			}},
			only: []string{"none"}, caught: []string{"ordered"},
		},
		{
			name: "started_out_of_turn", what: "a job of an ordered queue starts although its message is not the first one",
			edits: []edit{{
				"internal/worker/order.go", "\tif err == nil && turn != order.Mine {", "\tif err == nil && turn != order.Mine && false {",
			}},
			only: []string{"queue_disordered"}, caught: []string{"ordered"},
		},
		{
			name: "any_resume_releases", what: "a record of an operator releases the failed first job, whichever message it names",
			edits: []edit{{"internal/order/order.go", "\treturn record != nil && own.Is(*record)\n", "\treturn record != nil\n"}},
			only:  []string{"none"}, caught: []string{"ordered"},
		},
		{
			name: "redriven_to_the_queue", what: "dead redrive --now publishes to the end of the queue that stands still",
			edits: []edit{{"client/redrive.go", "\tif opts.Now {\n", "\tif opts.Now && false {\n"}},
			only:  []string{"none"}, caught: []string{"drained", "one_result"}, drain: 15 * time.Second,
		},
	}
}

package status

import (
	"strconv"
	"strings"
)

// queuesFailed describes the failed jobs that this runner keeps at the head of ordered queues; empty: there are none.
func queuesFailed(d *Database) string {
	var texts []string
	for _, l := range d.lanes {
		if l.queue == "" {
			continue
		}
		if f := l.state().Failed; f != nil {
			outcome := string(f.Status)
			if f.Code != "" {
				outcome += ", " + f.Code
			}
			texts = append(texts, "the ordered queue "+l.queue+" waits: its job "+f.JobID+" (sequence "+strconv.FormatUint(f.Sequence, 10)+
				") is "+outcome+"; repair what it needs, then: runner resume "+d.Name+" --queue "+l.queue+" --job "+f.JobID)
		}
	}
	return strings.Join(texts, "; ")
}

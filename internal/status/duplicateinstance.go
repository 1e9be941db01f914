package status

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"time"

	"go.uber.org/zap"
)

// process distinguishes two runners with the same instance name.
type process struct {
	ID   string // random, of this run
	Host string
	PID  int
}

func thisProcess() process {
	var id [6]byte
	_, _ = rand.Read(id[:])  // never fails
	host, _ := os.Hostname() // not reported if unknown; the id is enough
	return process{ID: hex.EncodeToString(id[:]), Host: host, PID: os.Getpid()}
}

// duplicateInstance is another process with this runner's instance name. Two of them overwrite each other's heartbeats; jobs
// are safe, as nothing hangs on the name. The heartbeats' goroutine alone uses it.
type duplicateInstance struct {
	noticed bool
	seen    time.Time
}

// note takes over whether another process has published under our name, and reports a change. One that is silent for
// several intervals is gone.
func (n *duplicateInstance) note(shared bool, interval time.Duration, self process, log *zap.Logger) {
	const missedHeartbeats = 3
	switch {
	case shared:
		n.seen = time.Now()
		if !n.noticed {
			n.noticed = true
			log.Error("duplicate instance name",
				zap.String("process", self.ID), zap.String("host", self.Host), zap.Int("pid", self.PID))
		}
	case n.noticed && time.Since(n.seen) > missedHeartbeats*interval:
		n.noticed = false
		log.Info("duplicate instance gone")
	}
}

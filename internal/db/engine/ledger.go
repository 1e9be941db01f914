package engine

import "crypto/sha256"

// JobLock is the name of the lock that the session of an execution at most once holds, the same for every runner.
func JobLock(namespace, database, jobID string) [sha256.Size]byte {
	return sha256.Sum256([]byte("dbrunner job lock\x00" + namespace + "\x00" + database + "\x00" + jobID))
}

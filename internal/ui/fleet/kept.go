package fleet

import (
	"sync"
	"time"
)

const (
	keptFor  = 10 * time.Minute // what is known of a database is dropped if it was not asked for within this time
	keptMost = 200              // databases
)

// kept is what is known of each database that was asked for lately. Names come from addresses: there may be any number of them.
type kept[T any] struct {
	mu  sync.Mutex
	all map[string]*keptOne[T]
}

type keptOne[T any] struct {
	value T
	used  time.Time
}

// of returns what is known of a database.
func (k *kept[T]) of(database string) *T {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	one := k.all[database]
	if one == nil {
		k.makeRoom(now)
		one = &keptOne[T]{}
		k.all[database] = one
	}
	one.used = now
	return &one.value
}

// makeRoom drops what is old, and, if that is not enough, what was not used for the longest time.
func (k *kept[T]) makeRoom(now time.Time) {
	if k.all == nil {
		k.all = map[string]*keptOne[T]{}
	}
	oldest := ""
	for name, one := range k.all {
		if now.Sub(one.used) > keptFor {
			delete(k.all, name)
		} else if oldest == "" || one.used.Before(k.all[oldest].used) {
			oldest = name
		}
	}
	if len(k.all) >= keptMost {
		delete(k.all, oldest)
	}
}

package cache

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"fwdproxy/cache/store"
)

const (
	usesSlots  = 1 << 16
	usesWithin = 24 * time.Hour
	maxUses    = 255 // what a slot can count to
)

// uses counts how often keys were asked for. Each has one slot of a table that
// never grows; two that share one count from anew in turn, so that it may count
// too few, never too many.
type uses struct {
	slots atomic.Pointer[[usesSlots]atomic.Uint64] // made when first needed
}

// add counts one use of the key and returns how many there were within a day.
func (u *uses) add(k store.Key, now time.Time) int {
	table := u.slots.Load()
	if table == nil {
		u.slots.CompareAndSwap(nil, new([usesSlots]atomic.Uint64))
		table = u.slots.Load()
	}
	// A slot holds 32 bits of the key, 24 of the hour that counting began in,
	// and the count.
	slot := &table[binary.LittleEndian.Uint16(k[4:])]
	tag, hour := uint64(binary.LittleEndian.Uint32(k[8:]))<<32, uint64(now.Unix()/3600)&(1<<24-1)
	for {
		old := slot.Load()
		began, n := old>>8&(1<<24-1), old&maxUses
		if old&^(1<<32-1) != tag || n == 0 || hour-began >= uint64(usesWithin/time.Hour) {
			began, n = hour, 0
		}
		n = min(n+1, maxUses)
		if slot.CompareAndSwap(old, tag|began<<8|n) {
			return int(n)
		}
	}
}

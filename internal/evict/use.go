package evict

import (
	"time"
)

// Use is what is kept of the uses of an image: five bytes for any number of them. The
// zero Use is that of an image of which nothing is known: it was used long ago, once.
type Use struct {
	// Hour is the last use, in hours since 1970.
	Hour uint32
	// Habit is how often the image was used again since it was stored, in the upper
	// three bits, and the usual time between two uses, in the lower five. Zero means
	// that it was never used again.
	Habit uint8
}

// FirstUse is the use of an image that is being stored. See [Ghosts.Stored] for one that
// may have been here before.
func FirstUse(now time.Time) Use { return Use{Hour: hour(now)} }

// Used returns what u becomes by a use at now. Uses within one hour are one use, so that
// a fleet that pulls an image at once does not count as a habit; then the result is u,
// and there is nothing to write.
func (u Use) Used(now time.Time) Use {
	h := hour(now)
	if h == u.Hour {
		return u
	}
	pause := apart(h, u.Hour)
	if u.again() > 0 {
		pause = (u.pause() + pause + 1) / 2
	}
	return Use{Hour: h, Habit: habit(u.again()+1, pause)}
}

// Idle is the time since the last use, in whole hours. A last use in the future comes
// from a clock that was wrong; it counts as one that is as far in the past, so that no
// image stays for ever because of it.
func (u Use) Idle(now time.Time) time.Duration {
	return time.Duration(apart(hour(now), u.Hour)) * time.Hour
}

// again is how often the image was used again, at most 7.
func (u Use) again() int64 { return int64(u.Habit >> 5) }

// pause is the usual time between two uses, in hours.
func (u Use) pause() int64 { return pauses[u.Habit&31] }

// coldness is how long the image does without a use, in 256th of an hour: the longer of
// its pause until now and its usual one, divided by the root of the number of its uses.
// The root lets a habit of many uses end later than one of few, and yet end.
func (u Use) coldness(hourNow uint32) int32 {
	const most = 1 << 22 // hours, some 500 years
	return int32(min(most, max(apart(hourNow, u.Hour), u.pause())) * weights[u.again()])
}

// weights are 256 divided by the root of 1, 2, 3 ... 8.
var weights = [8]int64{256, 181, 148, 128, 114, 105, 97, 91}

// pauses are the pauses that a Habit can tell apart: two in each doubling, up to five
// years.
var pauses = [32]int64{0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024,
	1448, 2048, 2896, 4096, 5793, 8192, 11585, 16384, 23170, 32768, 46341}

// habit packs the number of uses after the first and the pause between them.
func habit(again, pause int64) uint8 {
	i := len(pauses) - 1
	for i > 1 && pause*pause < pauses[i-1]*pauses[i] { // nearer to the smaller one, as a ratio
		i--
	}
	return uint8(min(again, 7))<<5 | uint8(i)
}

// hour is a time in hours since 1970.
func hour(t time.Time) uint32 { return uint32(max(0, t.Unix()/3600)) }

func apart(a, b uint32) int64 { return max(int64(a)-int64(b), int64(b)-int64(a)) }

// UseOf is the use of an image that was last used at a time, and used again a number of
// times since it was stored, usually after a pause.
func UseOf(last time.Time, again int, pause time.Duration) Use {
	u := Use{Hour: hour(last)}
	if again > 0 {
		u.Habit = habit(int64(again), int64(pause/time.Hour))
	}
	return u
}

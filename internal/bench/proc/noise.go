package proc

import (
	"os"
	"syscall"
	"time"
)

// Noise tells how much of the processors others took.
type Noise struct{ busy, all, ours time.Duration }

// Listen begins to measure noise. Processes that we started must have ended by now.
func Listen() (Noise, error) { return now() }

// Share returns the share of all processors that others took since Listen, from 0 to 1.
// Every process that we started since then must have been waited for.
func (n Noise) Share() (float64, error) {
	end, err := now()
	if err != nil {
		return 0, err
	}
	return end.since(n), nil
}

// since returns the share of others between two moments.
func (n Noise) since(begin Noise) float64 {
	all := n.all - begin.all
	if all <= 0 {
		return 0
	}
	others := (n.busy - begin.busy) - (n.ours - begin.ours)
	return min(1, max(0, float64(others)/float64(all)))
}

func now() (Noise, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Noise{}, err
	}
	var n Noise
	if n.busy, n.all, err = parseBusy(string(text)); err != nil {
		return Noise{}, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			return Noise{}, err
		}
		n.ours += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return n, nil
}

package fleet

import (
	"context"

	"github.com/pullthrough/pullthrough/internal/gate"
)

// life is what a replica does by itself, beside pings. It ends with Close.
type life struct {
	work gate.Gate
	ctx  context.Context // ends when Close begins
	end  context.CancelFunc
}

// Close is Leave, ends what this replica does by itself, and waits for that, 2 seconds at
// most. A deletion that another replica did not hear of is told a last time; if that fails, the
// log says so. Afterwards nothing begins by itself: Deleted tells the others once.
//
// Call it when the cache is shut down, so that no deletion is under way. It may be called
// again, and while the Fleet is in use.
func (f *Fleet) Close() {
	f.begin()
	f.Leave()
	f.life.end()
	for _, work := range []*gate.Gate{&f.health.work, &f.life.work} {
		_ = work.Wait(context.Background()) // nothing goes on for longer than tellTime
	}
	if f.own != nil {
		f.own.CloseIdleConnections()
	}
}

package webhook_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// unsynced hides SyncRecords: ten thousand syncs take their time.
type unsynced struct{ webhook.Records }

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestTenThousandForADeadReceiver(t *testing.T) {
	const events = 10000
	path := t.TempDir()
	tell(t, func(t *testing.T) {
		dir := openDir(t, path)
		a := newReceiver("a")
		a.fail(errDown)
		wantSmall := func(what string, do func() *story) *story {
			before := heap()
			box := do()
			if s := box.state("a"); s.Queued != events || s.Dropped != 0 {
				t.Errorf("%s: %+v", what, s)
			}
			grew := heap() - before
			if t.Logf("%s: %d KiB of heap, %d bytes for each", what, grew>>10, grew/events); grew > 16<<20 {
				t.Errorf("%s: the heap grew by %d KiB", what, grew>>10)
			}
			return box
		}
		box := wantSmall("queued", func() *story {
			box := outbox(t, unsynced{dir}, nil, a)
			for i := range events {
				if err := box.Send(t.Context(), numbered(i)); err != nil {
					t.Fatal(err)
				}
			}
			return box
		})
		wantOnlyTriesWritten(t, a, filepath.Join(path, "records", "outbox.log"), events)

		if err := box.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		box = wantSmall("restarted", func() *story { return outbox(t, unsynced{dir}, nil, a) })
		a.recover()
		for box.state("a").Queued > 0 {
			wait(time.Second)
		}
		if n := len(a.got()); n != events {
			t.Errorf("%d taken", n)
		}
	})
}

// wantOnlyTriesWritten watches 20 tries that fail: the log grows by what was
// tried, not by what waits.
func wantOnlyTriesWritten(t *testing.T, a *receiver, logFile string, events int64) {
	t.Helper()
	size := func() int64 {
		st, err := os.Stat(logFile)
		if err != nil {
			t.Fatal(err)
		}
		return st.Size()
	}
	wait(0)
	was, tried := size(), len(a.log(""))
	for len(a.log("")) < tried+20 {
		wait(time.Second)
	}
	n := int64(len(a.log("")) - tried)
	grew, each := size()-was, was/events
	if t.Logf("%d tries: the log grew by %d bytes; an entry has %d", n, grew, each); grew < n*each/2 || grew > n*(each+200) {
		t.Errorf("%d tries made the log grow by %d bytes; an entry has %d", n, grew, each)
	}
}

package store

import (
	"fmt"
	"sync"
	"testing"
)

// TestWhatIsSentAtOnceIsRemembered sends blobs as the commits of many manifests do: what
// is forgotten would be looked up again.
func TestWhatIsSentAtOnceIsRemembered(t *testing.T) {
	m := newTierMemory()
	var all sync.WaitGroup
	for sender := range 4 {
		info, _ := content1(fmt.Sprint("blob ", sender), 20)
		all.Go(func() {
			for n := range 20000 {
				m.sent("a", info, 0)
				if !m.hasFrom("a", info) {
					t.Errorf("sender %d: blob %d is not known to be there", sender, n)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestSentWhileItIsDeleted: nobody knows which of the two Far did last.
func TestSentWhileItIsDeleted(t *testing.T) {
	m := newTierMemory()
	info, _ := content1("blob", 20)
	deletions := m.deletions.Load() // then it is sent, and deleted at once
	m.deleted(linkOf("a", info.Digest))
	m.sent("a", info, deletions)
	if _, ok := m.has(linkOf("a", info.Digest)); ok {
		t.Error("it counts as being there")
	}
	m.sent("a", info, m.deletions.Load())
	if !m.hasFrom("a", info) {
		t.Error("what was sent again is not known to be there")
	}
}

//go:build unix

package index

import (
	"os"
	"syscall"
	"testing"

	"github.com/pullthrough/pullthrough/internal/durable"
)

// TestModesWhateverTheUmask holds while the file is opened, too.
func TestModesWhateverTheUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		o := optionsIn(t, t.TempDir())
		emptied(t, o, 10)
		if err := os.Remove(o.Spare); err != nil {
			t.Fatal(err)
		}
		fresh := optionsIn(t, t.TempDir())
		o.compactGain = 1 << 20
		looked := 0
		look := func(path string) {
			t.Helper()
			looked++
			if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
				t.Errorf("umask %04o: %s: %v, %v", mask, path, st.Mode(), err)
			}
		}
		for _, o := range []Options{o, fresh} {
			o.Disk.Step = func(op durable.Op, path, _ string) error {
				if op == durable.OpRemove && path == marker(o.Path) {
					look(o.Path)
					look(path)
				}
				return nil
			}
			func() {
				defer syscall.Umask(syscall.Umask(mask))
				open(t, o)
			}()
			look(o.Path)
			look(o.Spare)
		}
		if looked != 8 {
			t.Errorf("umask %04o: looked at %d files", mask, looked)
		}
	}
}

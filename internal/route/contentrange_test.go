package route

import "testing"

func TestContentRange(t *testing.T) {
	for s, want := range map[string]ContentRange{
		"bytes 0-0/1": {0, 0, 1}, "bytes 5-9/*": {5, 9, -1}, "BYTES 5-9/10": {5, 9, 10},
	} {
		if got, ok := ParseContentRange(s); !ok || got != want {
			t.Errorf("%q: %+v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "bytes", "bytes */10", "bytes 5-4/10", "bytes 0-10/10", "bytes -1-5/10", "bytes +1-5/10", "items 0-1/2", "bytes 0-1", "bytes 0-99999999999999999999/*", "bytes 0-1/x"} {
		if got, ok := ParseContentRange(s); ok {
			t.Errorf("%q: %+v", s, got)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-1/2")
	f.Add("bytes 9223372036854775806-9223372036854775807/*")
	f.Fuzz(func(t *testing.T, s string) {
		if r, ok := ParseContentRange(s); ok && (r.First < 0 || r.Last < r.First || r.Last-r.First+1 <= 0 || r.Size >= 0 && r.Size <= r.Last) {
			t.Errorf("%q: %+v", s, r)
		}
	})
}

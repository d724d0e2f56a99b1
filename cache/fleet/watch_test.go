package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// A replica that sends no header for 300 ms is asked whether it lives, for as long again at
// most.
func TestSilentBeforeTheHeader(t *testing.T) {
	for name, c := range map[string]struct {
		head  peerFunc
		took  time.Duration
		via   string
		asked string
	}{
		"it does not answer":   {hangs, 600 * time.Millisecond, "b:1", "GET a, HEAD a, GET b"},
		"nobody listens":       {refuses, 300 * time.Millisecond, "b:1", "GET a, HEAD a, GET b"},
		"it does not bring it": {says(404), 300 * time.Millisecond, "b:1", "GET a, HEAD a, GET b"},
		"it follows another":   {follows("c:1"), 300 * time.Millisecond, "b:1", "GET a, HEAD a, GET b"},
		"it brings it":         {says(200), 2 * time.Second, "a:1", "GET a, HEAD aa"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				s.play(byMethod(func(r *http.Request) (*http.Response, error) {
					select {
					case <-time.After(2 * time.Second):
						return sends()(r)
					case <-r.Context().Done():
						return nil, context.Cause(r.Context())
					}
				}, c.head), "a")
				s.play(sends(), "b")
				began := time.Now()
				s.wantBlob(c.via)
				if took := time.Since(began); took != c.took {
					s.Errorf("it took %v, want %v", took, c.took)
				}
				s.wantAsked(c.asked)
			})
		})
	}
}

// A replica that sends nothing in the middle of a blob for a second is asked whether it
// lives, for half a second at most. The download then goes on from where it is.
func TestSilentInTheMiddle(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		head  peerFunc
		took  time.Duration // until the body ends
		ok    bool
		asked string
		next  string // whom the rest is asked of
	}{
		"shortly":                     {900 * time.Millisecond, hangs, 900 * time.Millisecond, true, "GET a", ""},
		"it does not answer":          {time.Hour, hangs, 1500 * time.Millisecond, false, "GET a, HEAD a", "b:1"},
		"nobody listens":              {time.Hour, refuses, time.Second, false, "GET a, HEAD a", "b:1"},
		"it does not bring it":        {time.Hour, says(404), time.Second, false, "GET a, HEAD a", "b:1"},
		"it follows another":          {time.Hour, follows("c:1"), time.Second, false, "GET a, HEAD a", "b:1"},
		"it brings it":                {3500 * time.Millisecond, says(200), 3500 * time.Millisecond, true, "GET a, HEAD aaa", ""},
		"the connection breaks":       {-1, says(200), 0, false, "GET a", "b:1"},
		"it lives, and then does not": {time.Hour, dies(2), 3500 * time.Millisecond, false, "GET a, HEAD aaa", "b:1"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				const at = 70000
				s.play(byMethod(sends(stalls(at, c.pause)), c.head), "a")
				s.play(sends(), "b")
				body, err := s.blob(s.Context(), 0, -1)
				if err != nil {
					s.Fatal(err)
				}
				began := time.Now()
				got, err := io.ReadAll(body)
				if took := time.Since(began); took != c.took {
					s.Errorf("it took %v, want %v", took, c.took)
				}
				if closed := body.Close(); closed != nil && c.ok {
					s.Error(closed)
				}
				s.wantAsked(c.asked)
				if c.ok {
					if err != nil || !bytes.Equal(got, content) {
						s.Errorf("%d bytes, %v", len(got), err)
					}
					return
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != at || !strings.Contains(err.Error(), "a:1") {
					s.Errorf("%d bytes, %v", len(got), err)
				}
				if _, known := upstream.ClassOf(err); known {
					s.Errorf("a replica's failure counts as the upstream's: %v", err)
				}
				body, err = s.blob(s.Context(), at, -1)
				if err != nil {
					s.Fatal(err)
				}
				rest, err := io.ReadAll(body)
				if err != nil || body.Via != c.next || !bytes.Equal(rest, content[at:]) {
					s.Errorf("the rest comes from %q: %d bytes, %v", body.Via, len(rest), err)
				}
				_ = body.Close()
			})
		})
	}
}

// dies says n times that the replica brings the blob, and then nothing.
func dies(n int) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		if n--; n < 0 {
			return hangs(r)
		}
		return says(200)(r)
	}
}

// A replica whose body breaks off may live: only that blob is asked for elsewhere.
func TestBrokenBodyIsNoDeath(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(sends(stalls(100, -1)), "a")
		body, err := s.blob(s.Context(), 0, -1)
		if err == nil {
			_, err = io.ReadAll(body)
			_ = body.Close()
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			s.Errorf("%v", err)
		}
		for _, m := range s.fleet.Members(s.Context()) {
			if m.Dead {
				s.Errorf("%s is dead", m.Address)
			}
		}
		s.play(sends(), "a", "c")
		s.took()
		s.wantBlob("c:1")
		s.wantAsked("GET b, GET c")
		if st := s.fleet.Stats(); st.Failures != 1 {
			s.Errorf("%+v", st)
		}
	})
}

// A slow reader is no silent replica.
func TestSlowReaderIsNoSilence(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(byMethod(sends(), refuses), "a")
		body, err := s.blob(s.Context(), 0, -1)
		if err != nil {
			s.Fatal(err)
		}
		got := make([]byte, len(content))
		for i := 0; i < len(got); i += 50000 {
			time.Sleep(10 * time.Second)
			if _, err := io.ReadFull(body, got[i:i+50000]); err != nil {
				s.Fatal(err)
			}
		}
		if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF || !bytes.Equal(got, content) {
			s.Errorf("%d, %v", n, err)
		}
		_ = body.Close()
		s.wantAsked("GET a")
	})
}

// A replica that says that it brings the blob, and sends nothing until its reader has had
// enough, is passed over for that blob for a while.
func TestReaderHasHadEnough(t *testing.T) {
	for name, get := range map[string]peerFunc{"no header": hangs, "no byte": sends(stalls(0, time.Hour))} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				s.play(byMethod(get, says(200)), "a")
				wait := func(d time.Duration) {
					ctx, cancel := context.WithCancelCause(s.Context())
					defer cancel(nil)
					time.AfterFunc(d, func() { cancel(errors.New("had enough")) })
					body, err := s.blob(ctx, 0, -1)
					if err == nil {
						_, err = io.ReadAll(body)
						_ = body.Close()
					}
					if err == nil {
						s.Error("there are bytes")
					}
				}
				wait(500 * time.Millisecond) // a client that leaves soon says nothing about the replica
				s.took()
				wait(4500 * time.Millisecond) // it leaves between two questions, which come every second
				if got := s.took(); !strings.HasPrefix(got, "GET a, HEAD a") {
					s.Errorf("asked: %s", got)
				}
				s.play(sends(), "b")
				s.wantBlob("b:1")
				s.wantAsked("GET b")
				time.Sleep(time.Minute)
				s.play(sends(), "a")
				s.wantBlob("a:1")
			})
		})
	}
}

// What had the wrong digest is asked for again from its beginning, and then not of those that
// sent it, not even if another one follows them.
func TestDistrust(t *testing.T) {
	onStage(t, func(s *stage) {
		s.play(sends(), "a")
		s.wantBlob("a:1")
		s.took()
		s.play(follows("a:1"), "c", "d")
		s.wantBlob("")
		s.wantAsked("GET b, GET c, GET d, HEAD bbccddeeff, upstream")
		if got := s.log.String(); !strings.Contains(got, "level=WARN msg=\"fleet: a blob is asked for again") || !strings.Contains(got, "peers=a:1") {
			s.Errorf("the log says:\n%s", got)
		}
		time.Sleep(time.Minute)
		s.wantBlob("a:1")
		body, err := s.blob(s.Context(), 100, -1) // a download that goes on is no doubt
		if err != nil || body.Via != "a:1" {
			s.Fatalf("from %q, %v", body.Via, err)
		}
		_ = body.Close()
	})
}

// A replica whose upstream is slow asks whether another one is further, and follows that one.
func TestOvertaken(t *testing.T) {
	front := func(n string) peerFunc {
		return byMethod(sends(), func(r *http.Request) (*http.Response, error) { return says(200, "Pullthrough-Front", n)(r) })
	}
	for name, c := range map[string]struct {
		play  peerFunc
		pause time.Duration
		ok    bool
		asked string
	}{
		"by one that is further":      {front("190000"), 2 * time.Second, false, "HEAD"},
		"by one that has it":          {sends(), 2 * time.Second, false, "HEAD"},
		"by one that follows another": {says(409, "Pullthrough-Holder", "f:1", "Pullthrough-Front", "190000"), 2 * time.Second, false, "HEAD"},
		"not by one that is as far":   {front("70000"), 2 * time.Second, true, "HEAD"},
		"not by one that lies":        {front("many"), 2 * time.Second, true, "HEAD"},
		"not by a follower":           {follows("self:1"), 2 * time.Second, true, "HEAD"},
		"not by nobody":               {says(404), 2 * time.Second, true, "HEAD"},
		"not after a short pause":     {sends(), 900 * time.Millisecond, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				s.up = func(ctx context.Context, offset, _ int64) (upstream.Body, error) {
					body := stalls(70000, c.pause)(ctx, content[offset:])
					return upstream.Body{ReadCloser: io.NopCloser(body), Offset: offset, Length: int64(len(content)) - offset, Size: int64(len(content))}, nil
				}
				body, err := s.blob(s.Context(), 0, -1)
				if err != nil {
					s.Fatal(err)
				}
				s.took()
				s.play(c.play, "d")
				got, err := io.ReadAll(body)
				if c.asked == "" {
					s.wantAsked("")
				} else if asked := s.took(); !strings.HasPrefix(asked, c.asked) {
					s.Errorf("asked: %s", asked)
				}
				if c.ok {
					if err != nil || !bytes.Equal(got, content) {
						s.Errorf("%d bytes, %v", len(got), err)
					}
					_ = body.Close()
					return
				}
				if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, content[:len(got)]) {
					s.Errorf("%d bytes, %v", len(got), err)
				}
				s.play(sends(), "f")
				next, err := s.blob(s.Context(), int64(len(got)), -1) // while the old one is still open
				if err != nil || next.Via == "" {
					s.Fatalf("the rest comes from %q, %v", next.Via, err)
				}
				_, _ = body.Close(), next.Close()
				if st := s.fleet.Stats(); st.Overtaken != 1 {
					s.Errorf("%+v", st)
				}
			})
		})
	}
}

// A replica that could reach nobody, and its upstream late, asks those that seemed dead.
func TestOvertakenWhileNobodyWasReached(t *testing.T) {
	onStage(t, func(s *stage) {
		all := []string{"a", "b", "c", "d", "e", "f"}
		s.play(refuses, all...)
		s.up = func(ctx context.Context, offset, _ int64) (upstream.Body, error) {
			time.Sleep(3 * time.Second)
			s.play(nil, all...)
			s.play(sends(), "b")
			return upstream.Body{ReadCloser: io.NopCloser(bytes.NewReader(content)), Length: int64(len(content)), Size: int64(len(content))}, nil
		}
		body, err := s.blob(s.Context(), 0, -1)
		if err != nil {
			s.Fatal(err)
		}
		if n, err := body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
			s.Errorf("%d bytes, %v", n, err)
		}
		_ = body.Close()
		s.up = nil
		s.wantBlob("b:1")
	}, func(f *fleet.Fleet) {})
}

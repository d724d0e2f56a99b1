package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/upstream"
)

// peerFunc answers a request as a replica; see [reply].
type peerFunc func(r *http.Request) (*http.Response, error)

// stage is one replica among others that a test plays, in a bubble.
type stage struct {
	*testing.T
	fleet *fleet.Fleet
	repo  upstream.Repository
	// digest is of a blob for which the ranks are a, b, c, d, self, e, f.
	digest digest.Digest
	up     func(ctx context.Context, offset, length int64) (upstream.Body, error) // if nil, [content]

	mu    sync.Mutex
	plays map[string]peerFunc // by replica; who is missing answers 404
	asked []string            // such as "GET a", in order
	last  *http.Request
	// heard and aborted are the header and the end of the last answer of [stage.hears].
	heard   http.Header
	aborted bool
	log     bytes.Buffer
}

// ranked is the replicas of a stage in the order of their ranks.
var ranked = []string{"a:1", "b:1", "c:1", "d:1", "self:1", "e:1", "f:1"}

var stageSource = upstream.Source{Rule: "team", Host: "registry.example.com", Repository: "team/app"}

// wellRanked returns a digest for which the ranks are those.
var wellRanked = sync.OnceValue(func() digest.Digest {
	for i := 0; ; i++ {
		if d := digest.FromString(fmt.Sprint(i)); slices.Equal(fleet.Rank(ranked, stageSource, d), ranked) {
			return d
		}
	}
})

// content is what everybody sends.
var content = []byte(strings.Repeat("0123456789", 20000))

// onStage runs a test. edit may change the fleet.
func onStage(t *testing.T, test func(s *stage), edit ...func(f *fleet.Fleet)) {
	t.Helper()
	d := wellRanked()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, digest: d, plays: map[string]peerFunc{}}
		s.fleet = &fleet.Fleet{Self: "self:1", Peers: fleet.Static(ranked...), Secret: []byte(secret), Insecure: true, Transport: s}
		s.fleet.Logger = slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		for _, f := range edit {
			f(s.fleet)
		}
		var err error
		if s.repo, err = s.fleet.Opener(s).Open(stageSource, nil); err != nil {
			t.Fatal(err)
		}
		test(s)
		time.Sleep(5 * time.Second) // until nobody asks any more
		synctest.Wait()
		if b := s.fleet.Blobs(); len(b) != 0 {
			t.Errorf("left over: %+v", b)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the secret is in the log:\n%s", s.log.String())
		}
	})
}

// play sets what replicas do.
func (s *stage) play(f peerFunc, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.plays[n] = f
	}
}

// RoundTrip implements [http.RoundTripper].
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	name := strings.TrimSuffix(r.URL.Host, ":1")
	s.mu.Lock()
	word := r.Method + " " + name
	if strings.HasSuffix(r.URL.Path, "/ping") {
		word = "ping " + name
	}
	s.asked, s.last = append(s.asked, word), r
	play := s.plays[name]
	s.mu.Unlock()
	if play == nil {
		play = says(404)
	}
	return play(r)
}

// took returns what the replicas were asked since the last call. Those that were asked at
// once are together, such as "HEAD abc", and pings come last.
func (s *stage) took() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var words, pings []string
	for _, w := range s.asked {
		if strings.HasPrefix(w, "ping") {
			pings = append(pings, w)
			continue
		}
		name, together := strings.CutPrefix(w, "HEAD ")
		if last := len(words) - 1; together && last >= 0 && strings.HasPrefix(words[last], "HEAD ") {
			names := []byte(words[last][5:] + name)
			slices.Sort(names)
			words[last] = "HEAD " + string(names)
			continue
		}
		words = append(words, w)
	}
	s.asked = nil
	slices.Sort(pings)
	return strings.Join(append(words, pings...), ", ")
}

// Open implements [upstream.Opener].
func (s *stage) Open(upstream.Source, auth.Authenticator) (upstream.Repository, error) {
	return stageUpstream{s: s}, nil
}

type stageUpstream struct {
	upstream.Repository
	s *stage
}

func (u stageUpstream) Blob(ctx context.Context, _ digest.Digest, offset, length int64) (upstream.Body, error) {
	u.s.mu.Lock()
	u.s.asked = append(u.s.asked, "upstream")
	up := u.s.up
	u.s.mu.Unlock()
	if up != nil {
		return up(ctx, offset, length)
	}
	part := content[offset:]
	if length >= 0 {
		part = part[:length]
	}
	return upstream.Body{ReadCloser: io.NopCloser(bytes.NewReader(part)), Offset: offset, Length: int64(len(part)), Size: int64(len(content))}, nil
}

// blob asks for the blob as package cache does.
func (s *stage) blob(ctx context.Context, offset, length int64) (upstream.Body, error) {
	ctx = upstream.WithLoop(upstream.WithHint(ctx, upstream.Hint{Repository: "mirror/app", Size: int64(len(content))}), "fleet.example.com")
	return s.repo.Blob(ctx, s.digest, offset, length)
}

// wantBlob asks for the whole blob and says who sent it.
func (s *stage) wantBlob(via string) {
	s.Helper()
	body, err := s.blob(s.Context(), 0, -1)
	if err != nil {
		s.Errorf("no blob: %v", err)
		return
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, content) || body.Via != via {
		s.Errorf("%d bytes from %q, want %q: %v", len(got), body.Via, via, err)
	}
}

// wantAsked compares what was asked. In want, "HEAD" alone stands for any questions at once,
// of which some come too late.
func (s *stage) wantAsked(want string) {
	s.Helper()
	got := s.took()
	if strings.Contains(want+",", "HEAD,") {
		first, rest, _ := strings.Cut(got, "HEAD ")
		got = first + "HEAD" + strings.TrimLeft(rest, "abcdef")
		got = regexp.MustCompile(", HEAD [a-f]+").ReplaceAllString(got, "")
	}
	if got != want {
		s.Errorf("asked: %s\nwant:  %s", got, want)
	}
}

// reply makes a response.
func reply(r *http.Request, status int, body io.ReadCloser, length int64, header ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: body, ContentLength: length, Request: r}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// says answers with a status.
func says(status int, header ...string) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		return reply(r, status, http.NoBody, 0, header...), nil
	}
}

// follows answers that the replica follows another one.
func follows(holder string) peerFunc { return says(409, "Pullthrough-Holder", holder) }

// sends answers with the content, in a body that edit may replace.
func sends(edit ...func(ctx context.Context, part []byte) io.Reader) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodHead {
			return reply(r, 200, http.NoBody, 0), nil
		}
		part, status, header := content, 200, []string(nil)
		var first, last int
		switch n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n {
		case 1:
			last = len(content) - 1
			fallthrough
		case 2:
			part, status, header = content[first:last+1], 206, []string{"Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(content))}
		}
		var body io.Reader = bytes.NewReader(part)
		for _, f := range edit {
			body = f(r.Context(), part)
		}
		return reply(r, status, io.NopCloser(body), int64(len(part)), header...), nil
	}
}

// hangs never answers.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

// refuses has no listener.
func refuses(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// byMethod answers GET and HEAD differently.
func byMethod(get, head peerFunc) peerFunc {
	return func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodHead {
			return head(r)
		}
		return get(r)
	}
}

// stalls sends some bytes and then nothing, for a while; then the rest. If the pause is
// negative, the connection breaks there.
func stalls(after int, pause time.Duration) func(ctx context.Context, part []byte) io.Reader {
	return func(ctx context.Context, part []byte) io.Reader {
		n := min(after, len(part))
		gap := readerFunc(func([]byte) (int, error) {
			if pause < 0 {
				return 0, io.ErrUnexpectedEOF
			}
			select {
			case <-time.After(pause):
				return 0, io.EOF
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		})
		return io.MultiReader(bytes.NewReader(part[:n]), gap, bytes.NewReader(part[n:]))
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func digestOf(b []byte) digest.Digest { return digest.FromBytes(b) }

package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/internal/route"
	"github.com/pullthrough/pullthrough/upstream"
)

const (
	protocol     = "/fleet/v1/"
	headerSource = "Pullthrough-Source" // rule and host/repository that the local name stands for
	headerHolder = "Pullthrough-Holder" // with 409: the replica that the answering one follows
	headerFront  = "Pullthrough-Front"  // of a blob that is on its way: how many bytes are there
	headerPeer   = "Pullthrough-Peer"   // the replica that asks
	headerLoop   = "Cdn-Loop"

	// findTime is how long the others may take to say whether they have begun.
	findTime = 250 * time.Millisecond
)

// request makes a request to another replica.
func (f *Fleet) request(ctx context.Context, method, peer, path string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, f.scheme+"://"+peer+protocol+path, nil)
	if err != nil {
		return nil, err
	}
	if len(f.Secret) > 0 {
		req.Header.Set("Authorization", bearer+string(f.Secret))
	}
	req.Header.Set(headerPeer, f.Self)
	return req, nil
}

// question is one call of Blob as other replicas are asked it.
type question struct {
	f *Fleet
	key
	repository     string // local name
	loop           string
	offset, length int64
}

func (q *question) request(ctx context.Context, method, peer string) (*http.Request, error) {
	req, err := q.f.request(ctx, method, peer, q.repository+"/blobs/"+q.digest.String())
	if err != nil {
		return nil, err
	}
	req.Header.Set(headerSource, q.source.Rule+" "+q.source.String())
	if q.loop != "" {
		req.Header.Set(headerLoop, q.loop)
	}
	if method == http.MethodGet && (q.offset > 0 || q.length > 0) {
		last := ""
		if q.length > 0 {
			last = strconv.FormatInt(q.offset+q.length-1, 10)
		}
		req.Header.Set("Range", "bytes="+strconv.FormatInt(q.offset, 10)+"-"+last)
	}
	return req, nil
}

// parseSource parses the header that names a source.
func parseSource(header string) (s upstream.Source, ok bool) {
	rule, rest, ok := strings.Cut(header, " ")
	if !ok {
		return s, false
	}
	host, repository, ok := strings.Cut(rest, "/")
	return upstream.Source{Rule: rule, Host: host, Repository: repository}, ok && rule != "" && host != "" && repository != ""
}

// follow opens the blob at the first of some replicas that sends it, or at the one that it
// follows itself. With ok, body is what it sends, or err says that ctx has ended.
func (q *question) follow(ctx context.Context, peers []string) (body upstream.Body, ok bool, err error) {
	tried := map[string]bool{q.f.Self: true}
	for _, p := range peers {
		for p != "" && !tried[p] {
			tried[p] = true
			done, may := q.f.roles.follow(q.key, p)
			if !may {
				return body, false, nil // others wait for what this replica fills
			}
			body, holder, err := q.open(ctx, p, done)
			if err == nil {
				return body, true, nil
			}
			done()
			if ctx.Err() != nil {
				return body, true, context.Cause(ctx)
			}
			if p = ""; q.worthAsking(ctx, holder) {
				p = holder
			}
		}
	}
	return body, false, nil
}

// open opens the blob at a replica. done is called when the body is closed. holder is the
// replica that it follows, if it says so.
func (q *question) open(ctx context.Context, peer string, done func()) (body upstream.Body, holder string, err error) {
	f := q.f
	f.counts.followed.Add(1)
	w := newWatched(ctx, q, peer, done)
	fail := func(err error) (upstream.Body, string, error) {
		w.stop()
		if ctx.Err() == nil {
			f.failed(peer, err)
		} else {
			w.leftAlone()
		}
		return upstream.Body{}, "", err
	}
	req, err := q.request(w.own, http.MethodGet, peer)
	if err != nil {
		return fail(err)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return fail(err)
	}
	f.answered(peer, resp)
	if body, err = extent(resp, q.offset); err != nil {
		_ = resp.Body.Close()
		w.stop()
		f.log.Debug("fleet: a replica does not send a blob", "self", f.Self, "peer", peer, "digest", q.digest.String(), "err", err)
		if resp.StatusCode == http.StatusConflict {
			holder = resp.Header.Get(headerHolder)
		}
		return body, holder, err
	}
	f.log.Debug("fleet: follows", "self", f.Self, "peer", peer, "digest", q.digest.String(), "offset", body.Offset)
	body.Via, body.ReadCloser = peer, w.answered(resp.Body, body.Length)
	return body, "", nil
}

// extent says what an answer brings.
func extent(resp *http.Response, offset int64) (upstream.Body, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return upstream.Body{Length: resp.ContentLength, Size: resp.ContentLength}, nil
	case http.StatusPartialContent:
		r, ok := route.ParseContentRange(resp.Header.Get("Content-Range"))
		n := r.Last - r.First + 1
		if !ok || r.First != offset || resp.ContentLength >= 0 && resp.ContentLength != n {
			return upstream.Body{}, errors.New("fleet: a replica sent another part than it was asked for")
		}
		return upstream.Body{Offset: r.First, Length: n, Size: r.Size}, nil
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection is used again
	return upstream.Body{}, fmt.Errorf("fleet: a replica answered %d", resp.StatusCode)
}

// all is the front of a blob that is stored.
const all = math.MaxInt64

// word is what a replica says about a blob. The zero word says that it knows nothing of it.
type word struct {
	who   string // has the blob or brings it: the replica itself, or the one that it follows
	front int64  // how many bytes are there at least
	// doubtful says that there is no word, or that the replica follows one that does not
	// answer this one.
	doubtful bool
}

// asked asks a replica about the blob.
func (q *question) asked(ctx context.Context, peer string) word {
	f := q.f
	f.counts.questions.Add(1)
	req, err := q.request(ctx, http.MethodHead, peer)
	if err != nil {
		return word{}
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			f.failed(peer, err)
		}
		return word{doubtful: true}
	}
	_ = resp.Body.Close()
	f.answered(peer, resp)
	said := word{who: peer, front: all}
	if h := resp.Header.Get(headerFront); h != "" {
		said.front, _ = strconv.ParseInt(h, 10, 64)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return said
	case http.StatusConflict:
		if said.who = resp.Header.Get(headerHolder); q.worthAsking(ctx, said.who) {
			return said
		}
		return word{doubtful: said.who != f.Self}
	}
	return word{}
}

// worthAsking reports whether a replica that another one named is asked: one that is known,
// or a lie would lead the secret elsewhere, and that is not passed over.
func (q *question) worthAsking(ctx context.Context, peer string) bool {
	f := q.f
	return f.knows(ctx, peer) && !f.health.knownDead(peer) && !f.doubts.passedOver(q.key, peer)
}

// find asks the first of the ranked replicas at once, except Self and but, and returns one
// that has the blob or brings it, and more than beyond bytes of it. It is empty if none says
// so in time. If one of them does not answer, or follows one that does not, all are asked,
// also once more: those that are about to go on with the blob may be anywhere.
func (q *question) find(ctx context.Context, ranked []string, beyond int64, but ...string) string {
	others := slices.DeleteFunc(slices.Clone(ranked), func(p string) bool { return p == q.f.Self || slices.Contains(but, p) })
	who, doubtful := q.oneOf(ctx, others[:min(len(others), maxAsked)], beyond)
	if who == "" && doubtful {
		others = slices.DeleteFunc(others, q.f.health.knownDead)
		who, _ = q.oneOf(ctx, others[:min(len(others), maxAskedInDoubt)], beyond)
	}
	return who
}

// oneOf asks replicas at once.
func (q *question) oneOf(ctx context.Context, peers []string, beyond int64) (who string, doubtful bool) {
	if len(peers) == 0 {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	words := make(chan word, len(peers))
	for _, p := range peers {
		go func() { words <- q.asked(ctx, p) }()
	}
	for range peers {
		w := <-words
		if w.who != "" && w.front > beyond {
			return w.who, false
		}
		doubtful = doubtful || w.doubtful
	}
	return "", doubtful
}

// errStranger says that a replica answers, but not to this one.
var errStranger = errors.New("fleet: a replica answered 401")

// answered notes that a replica answered. One that takes this one for a stranger is as good
// as one that does not answer.
func (f *Fleet) answered(peer string, resp *http.Response) {
	if resp.StatusCode != http.StatusUnauthorized {
		f.health.lives(peer)
		return
	}
	if !f.health.knownDead(peer) {
		f.log.Warn("fleet: a replica does not accept the proof of this one; all need the same Secret", "self", f.Self, "peer", peer)
	}
	f.failed(peer, errStranger)
}

// failed notes that a replica did not answer.
func (f *Fleet) failed(peer string, err error) {
	f.counts.failures.Add(1)
	f.health.failed(peer)
	f.log.Debug("fleet: a replica does not answer", "self", f.Self, "peer", peer, "err", err)
}

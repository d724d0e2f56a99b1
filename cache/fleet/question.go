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
	protocol      = "/fleet/v1/"
	headerSource  = "Pullthrough-Source"  // rule and host/repository that the local name stands for
	headerHolder  = "Pullthrough-Holder"  // with 409: the replica that the answering one follows
	headerWithout = "Pullthrough-Without" // replicas that the asking one does not reach, or that lack the blob
	headerFront   = "Pullthrough-Front"   // of a blob that is on its way: how many bytes are there
	headerPeer    = "Pullthrough-Peer"    // the replica that asks
	headerLoop    = "Cdn-Loop"

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
	// without is replicas that others named as their holders, and that are not worth asking:
	// those that follow one of them may send the blob themselves.
	without []string
}

func (q question) request(ctx context.Context, method, peer string) (*http.Request, error) {
	req, err := q.f.request(ctx, method, peer, q.repository+"/blobs/"+q.digest.String())
	if err != nil {
		return nil, err
	}
	req.Header.Set(headerSource, q.source.Rule+" "+q.source.String())
	if q.loop != "" {
		req.Header.Set(headerLoop, q.loop)
	}
	if len(q.without) > 0 {
		req.Header.Set(headerWithout, strings.Join(q.without, " "))
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
	var lacking []string // the next one may be waiting for the answer that these have given
	for _, p := range peers {
		for p != "" && !tried[p] {
			tried[p] = true
			answered, done, may := q.f.roles.follow(q.key, p)
			if !may {
				return body, false, nil // others wait for what comes here
			}
			asks := *q
			asks.without = append(slices.Clip(q.without), lacking...)
			body, holder, err := asks.open(ctx, p, done)
			if err == nil {
				answered()
				return body, true, nil
			}
			done()
			if ctx.Err() != nil {
				return body, true, context.Cause(ctx)
			}
			if errors.Is(err, errLacks) {
				lacking = append(lacking, p)
			}
			switch {
			case q.worthAsking(ctx, holder):
				p = holder
			case q.doWithout(holder):
				tried[p] = false
			default:
				p = ""
			}
		}
	}
	return body, false, nil
}

// maxWithout is how many replicas one question does without.
const maxWithout = 8

// doWithout notes that a holder is not worth asking. It reports whether the one that named it
// is worth asking once more: it may send on what it gets from the holder, unless that one's
// bytes were wrong.
func (q *question) doWithout(holder string) bool {
	if !validAddress(holder) || holder == q.f.Self || slices.Contains(q.without, holder) || len(q.without) == maxWithout || q.f.doubts.forGood(q.key, holder) {
		return false
	}
	q.without = append(slices.Clip(q.without), holder)
	return true
}

// open opens the blob at a replica. done is called when the body is closed. holder is the
// replica that it follows, if it says so.
func (q question) open(ctx context.Context, peer string, done func()) (body upstream.Body, holder string, err error) {
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
	body.Via, body.ReadCloser = peer, w.answered(resp.Body, body.Length, resp.Header.Get(headerFront) != "")
	return body, "", nil
}

// errLacks says that a replica does not have a blob and does not bring it.
var errLacks = errors.New("fleet: a replica answered 404")

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
	if resp.StatusCode == http.StatusNotFound {
		return upstream.Body{}, errLacks
	}
	return upstream.Body{}, fmt.Errorf("fleet: a replica answered %d", resp.StatusCode)
}

// all is the front of a blob that is stored.
const all = math.MaxInt64

// word is what a replica says about a blob. The zero word says that it knows nothing of it.
type word struct {
	who   string // has the blob or brings it: the replica itself, or the one that it follows
	front int64  // how many bytes are there at least
	// past is the replica that the one in who follows, if that is not worth asking: the one in
	// who is then to be asked without it.
	past string
	// doubtful says that there is no word, or that the replica follows one that is not worth
	// asking.
	doubtful bool
}

// asked asks a replica about the blob.
func (q question) asked(ctx context.Context, peer string) word {
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
		switch holder := resp.Header.Get(headerHolder); {
		case q.worthAsking(ctx, holder):
			said.who = holder
			return said
		case q.doWithout(holder): // of this copy of q
			said.past, said.doubtful = holder, true
			return said
		default:
			return word{doubtful: holder != f.Self}
		}
	}
	return word{}
}

// worthAsking reports whether a replica that another one named is asked: one that is known,
// or a lie would lead the secret elsewhere, and that is not passed over.
func (q question) worthAsking(ctx context.Context, peer string) bool {
	f := q.f
	return f.knows(ctx, peer) && !f.health.knownDead(peer) && !f.doubts.passedOver(q.key, peer)
}

// find asks the first of the ranked replicas at once, except Self and but, and returns one
// that has the blob or brings it, and more than beyond bytes of it. It is empty if none says
// so in time.
//
// If one of them does not answer, or follows one that does not, or the one that should fetch
// the blob is not reached, all are asked, also once more: those that are about to go on with
// the blob, or to send it on, may be anywhere. Those that are passed over since they sent the
// blob before they had all of it are asked whether they have it now.
func (q *question) find(ctx context.Context, ranked []string, beyond int64, but ...string) (who string) {
	f := q.f
	if owner := Rank(f.members(ctx), q.source, q.digest)[0]; f.health.knownDead(owner) {
		q.doWithout(owner) // it may answer others
	}
	others := slices.DeleteFunc(slices.Clone(ranked), func(p string) bool { return p == f.Self || slices.Contains(but, p) })
	late := slices.DeleteFunc(f.late(ctx, q.key), func(p string) bool { return slices.Contains(others, p) || slices.Contains(but, p) })
	w := q.oneOf(ctx, others[:min(len(others), maxAsked)], late, beyond, but, findTime)
	if w.who == "" && (w.doubtful || len(q.without) > 0) {
		others = slices.DeleteFunc(others, f.health.knownDead)
		w = q.oneOf(ctx, others[:min(len(others), maxAskedInDoubt)], late, beyond, but, findTime)
	}
	if w.past != "" {
		q.doWithout(w.past)
	}
	return w.who
}

// oneOf asks replicas at once. What late ones say counts only if they have stored the blob.
// One that sends the blob on is the last resort.
func (q question) oneOf(ctx context.Context, peers, late []string, beyond int64, but []string, patience time.Duration) (best word) {
	if len(peers)+len(late) == 0 {
		return word{}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	words := make(chan word, len(peers)+len(late))
	for _, p := range peers {
		go func() { words <- q.asked(ctx, p) }()
	}
	for _, p := range late {
		go func() {
			w := q.asked(ctx, p)
			if w.who != p || w.front < all {
				w = word{}
			}
			words <- w
		}()
	}
	doubtful := false
	for range cap(words) {
		w := <-words
		doubtful = doubtful || w.doubtful
		if w.who == "" || w.front <= beyond || slices.Contains(but, w.who) {
			continue
		}
		if w.past == "" {
			return w
		}
		best = w
	}
	best.doubtful = doubtful
	return best
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

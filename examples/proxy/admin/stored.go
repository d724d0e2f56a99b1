package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/store"
)

const (
	lookEvery = time.Minute      // the images are looked at again when the last look is older
	maxWait   = 30 * time.Second // for a look
)

// looks keeps the last look at all images, which takes a second where there are many. The
// zero value is ready to use.
type looks struct {
	mu      sync.Mutex
	last    *look
	running chan struct{}      // closed when the look that is under way has ended; nil if there is none
	stop    context.CancelFunc // ends the look that is under way
	closed  bool               // no look begins any more
}

// look is what was seen at once.
type look struct {
	at     time.Time
	sizes  cache.Sizes
	bySize []string // the repositories, the largest first
	err    error
}

// look returns the last look, or nil if there is none, and whether one is under way. It
// begins one if the last is old, and waits for it for some time.
func (a *API) look(ctx context.Context, wait time.Duration) (last *look, running bool) {
	l := &a.looks
	l.mu.Lock()
	if l.running == nil && !l.closed && (l.last == nil || time.Since(l.last.at) > lookEvery) {
		var stopped context.Context
		stopped, l.stop = context.WithCancel(context.WithoutCancel(ctx)) // it is for others too
		l.running = make(chan struct{})
		go a.lookNow(stopped, l.running)
	}
	ended := l.running
	l.mu.Unlock()
	if ended != nil && wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ended:
		case <-ctx.Done():
		case <-a.Ending:
		case <-timer.C:
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.running != nil
}

// Close ends what goes on behind requests, and waits for that. The store is not asked
// afterwards, except for requests that come nevertheless.
func (a *API) Close() error {
	l := &a.looks
	l.mu.Lock()
	l.closed = true
	running := l.running
	if running != nil {
		l.stop()
	}
	l.mu.Unlock()
	if running != nil {
		<-running
	}
	return nil
}

// lookNow looks at all images.
func (a *API) lookNow(ctx context.Context, ended chan struct{}) {
	now := &look{}
	now.sizes, now.err = a.Cache.Sizes(ctx)
	now.at = time.Now().UTC()
	now.bySize = slices.SortedFunc(maps.Keys(now.sizes.Repositories), func(x, y string) int {
		return cmp.Or(cmp.Compare(now.sizes.Repositories[y], now.sizes.Repositories[x]), cmp.Compare(x, y))
	})
	l := &a.looks
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.running = now, nil
	l.stop()
	close(ended)
}

// lookFor is look with the parameter wait of a request. A look that failed is an error.
func (a *API) lookFor(r *http.Request) (last *look, running bool, err error) {
	var wait time.Duration
	if text := r.URL.Query().Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return nil, false, wrong("wait: %q is no duration such as 10s", short(text))
		}
	}
	last, running = a.look(r.Context(), min(wait, maxWait))
	switch {
	case last == nil:
		return &look{}, running, nil
	case last.err != nil:
		return nil, running, fmt.Errorf("looking at what is stored: %w", last.err)
	}
	return last, running, nil
}

// storeSize answers GET store.
func (a *API) storeSize(r *http.Request) (any, error) {
	if _, err := parameters(r, "wait"); err != nil {
		return nil, err
	}
	sizer, ok := store.As[store.Sizer](a.Store)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	last, running, err := a.lookFor(r)
	if err != nil {
		return nil, err
	}
	size, err := sizer.Size(r.Context())
	if err != nil {
		return nil, err
	}
	return StoreSize{
		Content: size.Content, Overhead: size.Overhead, Free: size.Free,
		Repositories: len(last.sizes.Repositories), Looked: last.at, Looking: running,
	}, nil
}

// repositories answers GET repositories.
func (a *API) repositories(r *http.Request) (any, error) {
	q, err := parameters(r, "after", "limit", "order", "wait")
	if err != nil {
		return nil, err
	}
	most, err := limit(q)
	if err != nil {
		return nil, err
	}
	last, running, err := a.lookFor(r)
	if err != nil {
		return nil, err
	}
	list := RepositoryList{Repositories: []Repository{}, Looked: last.at, Looking: running}
	var names []string
	switch order := q.Get("order"); {
	case order == "bytes" && q.Get("after") != "":
		return nil, wrong("after: the order by bytes has one page")
	case order == "bytes":
		names = last.bySize[:min(len(last.bySize), most)]
	case order != "" && order != "name":
		return nil, wrong("order: %q is neither name nor bytes", short(order))
	default:
		for name, err := range a.Cache.Repositories(r.Context(), q.Get("after")) {
			if err != nil {
				return nil, err
			}
			if len(names) == most {
				list.Next = names[most-1]
				break
			}
			names = append(names, name)
		}
	}
	for _, name := range names {
		one := Repository{Name: name}
		if n, ok := last.sizes.Repositories[name]; ok {
			one.Bytes = &n
		}
		if a.Rules != nil {
			if m, err := a.Rules.Match(r.Context(), name); err == nil {
				one.Rule = m.Rule.Name
			}
		}
		list.Repositories = append(list.Repositories, one)
	}
	return list, nil
}

// tags answers GET tags.
func (a *API) tags(r *http.Request) (any, error) {
	q, most, repository, err := a.within(r)
	if err != nil {
		return nil, err
	}
	lister, err := a.lister()
	if err != nil {
		return nil, err
	}
	list := TagList{Tags: []Tag{}}
	for name, err := range lister.TagNames(r.Context(), repository, q.Get("after")) {
		if err != nil {
			return nil, err
		}
		if len(list.Tags) == most {
			list.Next = list.Tags[most-1].Name
			break
		}
		tag, err := a.Store.Tag(r.Context(), repository, name)
		if err != nil {
			if errors.Is(err, store.ErrNotFound) {
				continue // deleted meanwhile
			}
			return nil, err
		}
		list.Tags = append(list.Tags, Tag{Name: name, Digest: tag.Digest.String(), Source: tag.Source})
	}
	return list, nil
}

// manifests answers GET manifests.
func (a *API) manifests(r *http.Request) (any, error) {
	q, most, repository, err := a.within(r)
	if err != nil {
		return nil, err
	}
	lister, ok := store.As[store.ManifestLister](a.Store)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	list, after := ManifestList{Manifests: []Manifest{}}, q.Get("after")
	for info, err := range lister.Manifests(r.Context(), repository) {
		if err != nil {
			return nil, err
		}
		if info.Digest.String() <= after {
			continue
		}
		if len(list.Manifests) == most {
			list.Next = list.Manifests[most-1].Digest
			break
		}
		list.Manifests = append(list.Manifests, Manifest{
			Digest: info.Digest.String(), MediaType: info.MediaType, Size: info.Size, Source: info.Source, LastUse: info.Use.Last,
		})
	}
	return list, nil
}

// within reads the parameters of a list of a repository.
func (a *API) within(r *http.Request) (q url.Values, most int, repository string, err error) {
	if q, err = parameters(r, "repository", "after", "limit"); err != nil {
		return nil, 0, "", err
	}
	if most, err = limit(q); err != nil {
		return nil, 0, "", err
	}
	if repository, err = required(q, "repository"); err != nil {
		return nil, 0, "", err
	}
	return q, most, a.canonical(r.Context(), repository), nil
}

package page

import (
	"context"
	"time"
)

// notice is something that an operator should look at, with what it means and what to do.
type notice struct {
	Level   level
	Title   string
	Text    string
	Detail  string // an error, word for word
	Section string // where more is; empty if nowhere
	Link    string // the text of the link
}

// State is the level with the title as its word.
func (n notice) State() state { return state{n.Level, n.Title} }

// notices looks for everything that is not well, the worst first.
func (p *Page) notices(ctx context.Context, size sizeNow, v *view, now time.Time) (list []notice) {
	list = append(list, p.storeNotices(ctx, size)...)
	list = append(list, hostNotices(v.Hosts, now)...)
	list = append(list, credentialNotices(v.Credentials)...)
	list = append(list, v.Deliveries.notices()...)
	list = append(list, v.Held.notices()...)
	list = append(list, v.Fleet.notices()...)
	if n := v.Copies.Parked; n > 0 {
		list = append(list, notice{
			Level: warn, Title: noun(n, "copy") + " gave up for now", Section: "copies", Link: "See why",
			Text: "Each failed several times. It is tried again when somebody pulls the image, or when it is retried.",
		})
	}
	worst := make([]notice, 0, len(list))
	for _, l := range []level{bad, warn, idle} {
		for _, n := range list {
			if n.Level == l {
				worst = append(worst, n)
			}
		}
	}
	return worst
}

// storeNotices are about the store.
func (p *Page) storeNotices(ctx context.Context, size sizeNow) (list []notice) {
	switch {
	case size.err != nil:
		list = append(list, notice{
			Level: bad, Title: "The store is in trouble", Detail: short(size.err.Error(), 300),
			Text: "Its size cannot be read. Pulls go on from the upstreams, and nothing new may be kept. Look at the disk and at the log of the proxy.",
		})
	case size.full():
		list = append(list, notice{
			Level: bad, Title: "The store is full",
			Text: "Pulls still work: what is not stored is streamed from its upstream, and is not kept. " +
				"Make room on the disk, or set eviction.maxBytes so that images that nobody pulls go first.",
		})
	case size.low():
		list = append(list, notice{
			Level: warn, Title: "The store is nearly full",
			Text: formatBytes(size.Free) + " are left. When none are, new images are streamed and not kept.",
		})
	}
	if p.Ready == nil || len(list) > 0 {
		return list
	}
	ctx, cancel := context.WithTimeout(ctx, sizeWait)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		list = append(list, notice{
			Level: bad, Title: "The proxy is not ready", Detail: short(err.Error(), 300),
			Text: "/readyz refuses, so load balancers send no clients here.",
		})
	}
	return list
}

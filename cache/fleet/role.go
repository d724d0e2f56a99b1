package fleet

import (
	"maps"
	"slices"
	"sync"
)

// roles is what this replica does for each blob that is under way.
type roles struct {
	mu    sync.Mutex
	blobs map[key]*role
}

// role is what this replica does for a blob. It exists while a field is not zero. Either
// promised is zero, or following is empty: a replica that follows is not followed.
type role struct {
	asking    int            // about to fetch it: the others are being asked
	filling   int            // connections to the upstream
	promised  int            // requests of others that are answered from what is filled
	following map[string]int // connections to others
	yields    bool           // another replica is further: what is filled is about to be given up
}

// change changes the role for a blob.
func (r *roles) change(k key, edit func(*role)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.blobs[k]
	if o == nil {
		o = &role{}
		r.blobs[k] = o
	}
	edit(o)
	if o.asking == 0 && o.filling == 0 && o.promised == 0 && len(o.following) == 0 {
		delete(r.blobs, k)
	}
}

// ask notes that the others are being asked. The caller must call done once.
func (r *roles) ask(k key) (done func()) {
	r.change(k, func(o *role) { o.asking++ })
	return func() { r.change(k, func(o *role) { o.asking-- }) }
}

// fill notes a connection to the upstream. The caller must call done once.
func (r *roles) fill(k key) (done func()) {
	r.change(k, func(o *role) { o.filling, o.yields = o.filling+1, false })
	return func() { r.change(k, func(o *role) { o.filling-- }) }
}

// yield gives up what this replica fills since another one is further, unless others wait
// for it.
func (r *roles) yield(k key) (ok bool) {
	r.change(k, func(o *role) {
		if ok = o.promised == 0; ok {
			o.yields = true
		}
	})
	return ok
}

// follow notes a connection to another replica, unless others are promised what this one
// fills. The caller must call done once if ok.
func (r *roles) follow(k key, peer string) (done func(), ok bool) {
	r.change(k, func(o *role) {
		if ok = o.promised == 0; !ok {
			return
		}
		if o.following == nil {
			o.following = map[string]int{}
		}
		o.following[peer]++
	})
	return func() {
		r.change(k, func(o *role) {
			if o.following[peer]--; o.following[peer] == 0 {
				delete(o.following, peer)
			}
		})
	}, ok
}

// promise notes that another replica is answered from what this one fills, unless this one
// follows holder itself. The caller must call done once if ok.
func (r *roles) promise(k key) (done func(), holder string, ok bool) {
	r.change(k, func(o *role) {
		if holder = o.holder(); holder == "" {
			ok = true
			o.promised++
		}
	})
	return func() { r.change(k, func(o *role) { o.promised-- }) }, holder, ok
}

// holder is the replica that this one follows, the first of them in the order of their
// names. It is empty if there is none.
func (o *role) holder() string {
	if len(o.following) == 0 {
		return ""
	}
	return slices.Min(slices.Collect(maps.Keys(o.following)))
}

// decided reports whether this replica fills or follows.
func (r *roles) decided(k key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.blobs[k]
	return o != nil && (o.filling+o.promised > 0 || len(o.following) > 0)
}

// committed reports whether further bytes must come from the upstream: they do already, or
// others wait for them.
func (r *roles) committed(k key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.blobs[k]
	return o != nil && (o.filling > 0 && !o.yields || o.promised > 0)
}

// serves reports whether others are answered from what this replica fills.
func (r *roles) serves() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.blobs {
		if o.promised > 0 {
			return true
		}
	}
	return false
}

// stand is what a replica says when it is asked about a blob that it does not have.
type stand struct {
	holder string // it follows that one
	brings bool
	asks   bool // it is about to fetch the blob, if nobody else does
}

// stand returns what this replica does for a blob. coming says that a download is under way,
// of which front bytes are here. One that has none yet is about to ask the others: if it
// counted for more, two replicas that begin at once could send each other to the other one.
func (r *roles) stand(k key, coming bool, front int64) stand {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.blobs[k]
	switch {
	case o == nil:
		return stand{brings: coming && front > 0, asks: coming && front <= 0} // it may not be stored yet
	case len(o.following) > 0:
		return stand{holder: o.holder()}
	case o.filling+o.promised > 0:
		return stand{brings: true}
	case o.asking > 0:
		return stand{asks: true}
	}
	return stand{brings: coming}
}

package fleet

import (
	"slices"
	"sync"
)

// roles is what this replica does for each blob that is under way.
type roles struct {
	mu    sync.Mutex
	blobs map[key]*role
}

// role is what this replica does for a blob. It exists while one of the first four fields is
// not zero.
//
// There are no cycles, since a replica begins to follow only while it is not followed, and is
// followed only if it fills, or if each connection to those that it follows itself has been
// answered, by a replica that could promise the blob at that time.
type role struct {
	asking    int                // about to fetch it: the others are being asked
	filling   int                // connections to the upstream
	promised  int                // requests of others that are answered from what comes here
	following map[*followed]bool // connections to others
	yields    bool               // another replica is further: what is filled is about to be given up
	gaveWay   []string           // replicas that asked meanwhile, come before this one, and were told to fill
}

// followed is a connection to a replica that is followed.
type followed struct {
	peer     string
	answered bool // the blob comes
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
	if o.asking == 0 {
		o.gaveWay = nil
	}
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

// fillUnless is fill, unless this replica has given way to others since it began to ask. They
// are to be asked first, and are returned once.
func (r *roles) fillUnless(k key) (done func(), others []string) {
	r.change(k, func(o *role) {
		if others, o.gaveWay = o.gaveWay, nil; len(others) == 0 {
			o.filling, o.yields = o.filling+1, false
		}
	})
	if len(others) > 0 {
		return nil, others
	}
	return func() { r.change(k, func(o *role) { o.filling-- }) }, nil
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

// follow notes a connection to another replica, unless others are promised what comes here.
// If ok, the caller must call answered when the blob comes, and done once, at the end.
func (r *roles) follow(k key, peer string) (answered, done func(), ok bool) {
	c := &followed{peer: peer}
	r.change(k, func(o *role) {
		if ok = o.promised == 0; !ok {
			return
		}
		if o.following == nil {
			o.following = map[*followed]bool{}
		}
		o.following[c] = true
	})
	return func() { r.change(k, func(*role) { c.answered = true }) },
		func() { r.change(k, func(o *role) { delete(o.following, c) }) }, ok
}

// promise notes that another replica is answered from what comes here, unless that one is to
// ask holder. The caller must call done once if ok.
func (r *roles) promise(k key, a asker) (done func(), holder string, ok bool) {
	r.change(k, func(o *role) {
		if holder = o.holder(a); holder == "" && o.filling+o.promised == 0 {
			holder = firstExcept(o.gaveWay, append([]string{a.name}, a.without...))
		}
		if ok = holder == ""; ok {
			o.promised++
		}
	})
	return func() { r.change(k, func(o *role) { o.promised-- }) }, holder, ok
}

// holder is the replica that is to be asked for a blob in place of this one: the one that
// this one follows, or the first of them in the order of their names. It is empty if there
// is none, or if the asking one does without all of them and the blob comes from each.
//
// Two that ask one another at once would both be sent away. Therefore, the one that comes
// first in the rank answers the other one, which does not answer it.
func (o *role) holder(a asker) string {
	var names []string
	comes := true
	for c := range o.following {
		if c.peer == a.name && !c.answered && !a.first {
			continue
		}
		names = append(names, c.peer)
		comes = comes && c.answered
	}
	slices.Sort(names)
	if name := firstExcept(names, a.without); name != "" || comes || len(names) == 0 {
		return name
	}
	return names[0]
}

// firstExcept returns the first of some names that is not among others, or the empty string.
func firstExcept(names, others []string) string {
	for _, n := range names {
		if !slices.Contains(others, n) {
			return n
		}
	}
	return ""
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
}

// asker is a replica that asks about a blob.
type asker struct {
	name    string
	first   bool     // it comes before this one in the rank, and this one will ask it
	without []string // replicas that it does not reach
}

// stand returns what this replica does for a blob. coming says that a download is under way,
// of which front bytes are here. One that has none yet is about to ask the others: if it
// counted for more, two replicas that begin at once could send each other to the other one.
// Of two that are about to begin, the one with the lower rank gives way.
func (r *roles) stand(k key, a asker, coming bool, front int64) stand {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.blobs[k]
	switch {
	case o == nil && (!coming || front > 0):
		return stand{brings: coming} // it may not be stored yet
	case o == nil:
		return stand{brings: !a.first}
	case len(o.following) > 0:
		holder := o.holder(a)
		return stand{holder: holder, brings: holder == ""}
	case o.filling+o.promised > 0:
		return stand{brings: true}
	case o.asking > 0 && a.first:
		if len(o.gaveWay) < maxAskedInDoubt && !slices.Contains(o.gaveWay, a.name) {
			o.gaveWay = append(o.gaveWay, a.name)
		}
		return stand{}
	case o.asking > 0:
		return stand{brings: true}
	}
	return stand{brings: coming}
}

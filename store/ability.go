package store

// Unwrapper is implemented by a store that adds something to another one, so that
// [As] finds the abilities of the other one too.
//
// A wrapper embeds the interface [Store] and overrides the methods it is about. It
// should not embed a concrete store such as *[Dir]: that promotes Spool, which
// makes the wrapper a [Spooler] whose blobs never pass its Create. It overrides an
// ability by implementing all of its methods.
//
// A wrapper whose repositories, tags or digests are named otherwise than those of
// the store behind it must not have Unwrap: an ability that is found behind it
// knows the names there only.
type Unwrapper interface {
	// Unwrap returns the store behind this one. If nil, there is none.
	Unwrap() Store
}

// As finds an optional ability of s, such as [Records].
//
// An ability that only adds something ([Records], [Deleter], [Lister],
// [ManifestLister], [BlobLister], [UseRecorder], [Sizer], [Sharer], [Tiered]) is found on s or, through [Unwrapper], on the first
// store behind s that has it. An ability that does the work of a method of [Store] in
// another way is found on s alone, so that a wrapper that overrides the method is
// never bypassed: [Spooler], which is used instead of Create, [Mover], which is used
// instead of SetTag, and [Batcher], which is used instead of Create, SetTag and
// PutRecord.
//
// T must be the interface of the ability itself. An interface of your own that
// contains Spool among others, or a concrete type, is found through Unwrap.
func As[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok && relays[T](s) {
			return t, true
		}
		u, ok := s.(Unwrapper)
		if !ok || replaces[T]() {
			break
		}
		s = u.Unwrap()
	}
	var none T
	return none, false
}

// relays reports whether a store that implements T has the ability, which a relay may lack.
func relays[T any](s Store) bool {
	r, ok := s.(relay)
	return !ok || r.relays((*T)(nil))
}

// replaces reports whether an ability does what a method of [Store] does.
func replaces[T any]() bool {
	switch any((*T)(nil)).(type) {
	case *Spooler, *Mover, *Batcher:
		return true
	}
	return false
}

// Lacks names the abilities that As does not find in s and what is lost by that,
// such as "Deleter: nothing can be deleted", for a log. The result is nil if s has
// them all. [Checkpointer] is not among them, since only a [Spool] shows whether it
// is one.
func Lacks(s Store) []string {
	var lacks []string
	for _, a := range []struct {
		has  bool
		loss string
	}{
		{has[Spooler](s), "Spooler: downloads go through temporary files and begin anew after a restart"},
		{has[Records](s), "Records: unfinished copies and their events are lost with the process"},
		{has[Batcher](s), "Batcher: the end of a copy takes several writes, and a crash may leave a tag that moved a moment before its event is kept"},
		{has[Deleter](s), "Deleter: nothing can be deleted"},
		{has[Lister](s), "Lister: there is no catalog, no list of a repository without a rule, and a deleted manifest leaves its tags"},
		{has[ManifestLister](s), "ManifestLister: manifests that no tag names cannot be listed, and nothing is evicted"},
		{has[BlobLister](s), "BlobLister: no repository can be deleted as a whole"},
		{has[UseRecorder](s), "UseRecorder: eviction does not know what is used"},
		{has[Sizer](s), "Sizer: the size of the store is not known, and not limited"},
	} {
		if !a.has {
			lacks = append(lacks, a.loss)
		}
	}
	return lacks
}

func has[T any](s Store) bool {
	_, ok := As[T](s)
	return ok
}

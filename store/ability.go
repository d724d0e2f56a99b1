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
// An ability that only adds something ([Records], [RecordSyncer], [Deleter],
// [Lister], [ManifestLister]) is found on s or, through [Unwrapper], on the first
// store behind s that has it. An ability that does the work of a method of [Store] in
// another way is found on s alone, so that a wrapper that overrides the method is
// never bypassed: [Spooler], which is used instead of Create.
//
// T must be the interface of the ability itself. An interface of your own that
// contains Spool among others, or a concrete type, is found through Unwrap.
func As[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
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

// replaces reports whether an ability does what a method of [Store] does.
func replaces[T any]() bool {
	switch any((*T)(nil)).(type) {
	case *Spooler: // instead of Create
		return true
	}
	return false
}

// Lacks names the abilities that As does not find in s and what is lost by that,
// such as "Deleter: nothing can be deleted", for a log. The result is nil if s has
// them all. [Checkpointer] is not among them, since only a [Spool] shows whether it
// is one.
func Lacks(s Store) []string {
	records := has[Records](s)
	var lacks []string
	for _, a := range []struct {
		has  bool
		loss string
	}{
		{has[Spooler](s), "Spooler: downloads go through temporary files and begin anew after a restart"},
		{records, "Records: unfinished copies and their events are lost with the process"},
		// Without Records nothing is there to be synced.
		{!records || has[RecordSyncer](s), "RecordSyncer: a power loss may take the last records of unfinished copies and their events"},
		{has[Deleter](s), "Deleter: nothing can be deleted"},
		{has[Lister](s), "Lister: there is no catalog, no list of a repository without a rule, and a deleted manifest leaves its tags"},
		{has[ManifestLister](s), "ManifestLister: manifests that no tag names cannot be listed"},
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

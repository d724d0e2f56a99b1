package evict

// heap yields its entries in the order of before. Those that are no longer good are
// dropped on the way.
type heap[E any] struct {
	entries []E
	before  func(a, b E) bool
	good    func(e E) bool
}

// add is for a heap that is being filled: fill must be called before top.
func (h *heap[E]) add(e E) { h.entries = append(h.entries, e) }

func (h *heap[E]) fill() {
	for i := len(h.entries)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *heap[E]) push(e E) {
	h.entries = append(h.entries, e)
	for i := len(h.entries) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.before(h.entries[i], h.entries[up]) {
			return
		}
		h.entries[i], h.entries[up] = h.entries[up], h.entries[i]
		i = up
	}
}

// top returns the first good entry, which stays.
func (h *heap[E]) top() (e E, ok bool) {
	for len(h.entries) > 0 {
		if h.good(h.entries[0]) {
			return h.entries[0], true
		}
		h.pop()
	}
	return e, false
}

func (h *heap[E]) pop() {
	last := len(h.entries) - 1
	h.entries[0] = h.entries[last]
	h.entries = h.entries[:last]
	h.down(0)
}

func (h *heap[E]) down(i int) {
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.entries); child++ {
			if h.before(h.entries[child], h.entries[first]) {
				first = child
			}
		}
		if first == i {
			return
		}
		h.entries[i], h.entries[first] = h.entries[first], h.entries[i]
		i = first
	}
}

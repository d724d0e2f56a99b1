package webhook

// history keeps the last deliveries of a receiver. It is not safe for concurrent use.
type history struct {
	size   int // how many it keeps
	ring   []Delivery
	newest int // index of the last one in ring
}

func (h *history) add(d Delivery) {
	if len(h.ring) < h.size {
		h.ring = append(h.ring, d)
		h.newest = len(h.ring) - 1
		return
	}
	h.newest = (h.newest + 1) % len(h.ring)
	h.ring[h.newest] = d
}

// all returns the deliveries, the newest first.
func (h *history) all() []Delivery {
	n := len(h.ring)
	all := make([]Delivery, 0, n)
	for i := range n {
		all = append(all, h.ring[(h.newest-i+n)%n])
	}
	return all
}

package evict

// CountGhosts is the number of entries in the larger part of g.
func CountGhosts(g *Ghosts) int {
	n := 0
	for _, queue := range g.rules {
		n += len(queue)
	}
	return max(n, len(g.known))
}

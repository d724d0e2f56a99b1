// Package report gathers what was measured, and prints it: for each row how many times
// better this cache is than each peer.
package report

import (
	"fmt"
	"slices"
)

// Row is one thing that is measured.
type Row struct {
	// Work is what was done, and What is what of it was measured, with its unit.
	Work, What string
	// Higher says that more is better.
	Higher bool
}

// Results gathers values. The zero value is empty. It is not safe for concurrent use.
type Results struct {
	rows   []Row
	values map[Row]map[string]map[int]float64 // by peer and round
	noise  map[string][]float64               // by work
	failed []string
}

// Add notes the value of a row that a peer had in a round. A value that is not above
// zero was too small to be measured, and has no ratio.
func (r *Results) Add(row Row, peer string, round int, value float64) {
	if r.values == nil {
		r.values = map[Row]map[string]map[int]float64{}
	}
	if r.values[row] == nil {
		r.rows = append(r.rows, row)
		r.values[row] = map[string]map[int]float64{}
	}
	if r.values[row][peer] == nil {
		r.values[row][peer] = map[int]float64{}
	}
	r.values[row][peer][round] = value
}

// AddNoise notes which share of the processors others took during a part of a work.
func (r *Results) AddNoise(work string, share float64) {
	if r.noise == nil {
		r.noise = map[string][]float64{}
	}
	r.noise[work] = append(r.noise[work], share)
}

// Fail notes that a part failed. Its values are not there.
func (r *Results) Fail(work, peer string, round int, err error) {
	r.failed = append(r.failed, fmt.Sprintf("%s, %s, round %d: %v", work, peer, round, err))
}

// Failed returns how many parts failed.
func (r *Results) Failed() int { return len(r.failed) }

// ratios returns, for each round in which both were measured, how many times better one
// peer was than another. More than 1 is better.
func (r *Results) ratios(row Row, one, other string) (all []float64) {
	for round, a := range r.values[row][one] {
		b, ok := r.values[row][other][round]
		switch {
		case !ok || a <= 0 || b <= 0:
		case row.Higher:
			all = append(all, a/b)
		default:
			all = append(all, b/a)
		}
	}
	return all
}

// all returns the values of a peer.
func (r *Results) all(row Row, peer string) (all []float64) {
	for _, v := range r.values[row][peer] {
		all = append(all, v)
	}
	return all
}

// spread is a median and its range.
type spread struct {
	n                int
	low, median, top float64
}

// spreadOf returns the spread of values; without any, n is 0.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{n, sorted[0], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-1]}
}

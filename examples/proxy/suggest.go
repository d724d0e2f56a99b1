package main

import (
	"maps"
	"slices"
	"strings"
)

// unknown says what is wrong with a key that is not among those known at a path: which one was
// meant, where of all paths it belongs, or else which keys there are.
func unknown(key, path string, known map[string]read, all sketch) string {
	here := slices.Sorted(maps.Keys(known))
	near, distance := nearest(key, here)
	switch places := placesOf(key, path, all); {
	case distance == 1:
		return "unknown key; did you mean " + near + "?"
	case len(places) > 0:
		return "unknown key; " + key + " belongs into " + strings.Join(places, " or ")
	case distance > 1:
		return "unknown key; did you mean " + near + "?"
	}
	return "unknown key; known here: " + strings.Join(here, ", ")
}

// nearest returns the one of some keys that a person who wrote key may have meant, with how
// many letters differ. If there is none, or if key is one of them, the distance is 0.
func nearest(key string, keys []string) (near string, distance int) {
	most := min(max(1, len(key)/4), 3)
	for _, one := range keys {
		d := distanceOf(strings.ToLower(key), strings.ToLower(one))
		if one != key {
			d = max(d, 1) // only the case differs
		}
		if d <= most && (near == "" || d < distance) {
			near, distance = one, d
		}
	}
	return near, distance
}

// mostPlaces is how many places of a key are named.
const mostPlaces = 2

// placesOf returns the places where a key is known, apart from path.
func placesOf(key, path string, all sketch) (places []string) {
	for _, at := range slices.Sorted(maps.Keys(all)) {
		if at == pattern(path) || all[at].Properties[key] == nil || strings.Contains(at, "*") {
			continue
		}
		if at == "" {
			at = "the top of the file"
		}
		places = append(places, at)
	}
	if len(places) > mostPlaces {
		return nil // a common word, such as name
	}
	return places
}

// pattern returns a path of a file as [sketch] has it: without the numbers of elements.
func pattern(path string) string {
	var b strings.Builder
	inside := false
	for _, c := range path {
		if c == ']' {
			inside = false
		}
		if !inside {
			b.WriteRune(c)
		}
		if c == '[' {
			inside = true
		}
	}
	return b.String()
}

// distanceOf returns how many letters must be added, removed, replaced or swapped with the
// next one to make b of a.
func distanceOf(a, b string) int {
	if len(a) > maxSuggested || len(b) > maxSuggested {
		return maxSuggested
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// maxSuggested is the length of the longest key that is compared.
const maxSuggested = 64

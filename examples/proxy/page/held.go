package page

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/gate"
)

// heldRows is how many tags that are held the page shows at most.
const heldRows = 50

// heldView is the section of tags whose new image is not admitted.
type heldView struct {
	Show    bool // a rule has a gate, or something is held
	Total   int
	Refused int // tags of which nothing is served
	Level   level
	Rows    []heldRow
	Shown   string // such as "50 of 4,096"
}

// heldRow is one tag that is held.
type heldRow struct {
	Key       string
	Name      string
	Digest    string
	Rule      string
	Meanwhile state
	Former    string // empty if nothing is served
	Reason    string
	Since     when
	Until     when
	Open      string // says when that is decided anew if no time ahead says it
}

// viewHeld gathers what is held.
func (p *Page) viewHeld(now time.Time) heldView {
	var v heldView
	var list []cache.HeldTag
	if p.Held != nil {
		list = p.Held()
	}
	v.Total = len(list)
	v.Show = v.Total > 0 || p.Gated != nil && p.Gated()
	for _, t := range list {
		if refuses(t, now) {
			v.Refused++
			v.Level = warn
		}
	}
	slices.SortStableFunc(list, func(a, b cache.HeldTag) int {
		return cmp.Or(cmp.Compare(untilRank(a.Until, now), untilRank(b.Until, now)), a.Until.Compare(b.Until))
	})
	for _, t := range list[:min(len(list), heldRows)] {
		v.Rows = append(v.Rows, viewHeldTag(t, now))
	}
	v.Shown = shown(len(v.Rows), v.Total)
	return v
}

// untilRank puts times ahead first, then those that nobody said. Times that have passed are
// last: the next pull decides anew.
func untilRank(until, now time.Time) int {
	switch {
	case until.IsZero():
		return 1
	case now.Before(until):
		return 0
	}
	return 2
}

// refuses reports whether pulls of a tag are refused, and not only until its gate has answered.
func refuses(t cache.HeldTag, now time.Time) bool {
	return t.Former == "" && untilRank(t.Until, now) < 2 && !gate.Undecided(t.Err)
}

// viewHeldTag describes one tag.
func viewHeldTag(t cache.HeldTag, now time.Time) heldRow {
	name := t.Repository + ":" + t.Tag
	row := heldRow{
		Key: name, Name: name, Digest: t.Digest.String(), Rule: t.Source.Rule, Former: t.Former.String(), Reason: short(heldReason(t.Err), 300),
		Since: moment(t.Since, now), Until: moment(t.Until, now), Meanwhile: state{idle, "Former image"},
	}
	switch {
	case t.Former != "":
	case refuses(t, now):
		row.Meanwhile = state{warn, "Nothing: pulls fail"}
	default:
		row.Meanwhile = state{idle, "Nothing yet"}
	}
	switch untilRank(t.Until, now) {
	case 1:
		row.Open = "Each pull asks"
	case 2:
		row.Open = "The next pull asks"
	}
	return row
}

// heldReason says why a digest is held. The time stands beside it.
func heldReason(err error) string {
	if h, ok := errors.AsType[*cache.Hold](err); ok {
		return h.Reason
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// notices are about tags of which nothing is served.
func (v heldView) notices() []notice {
	if v.Refused == 0 {
		return nil
	}
	return []notice{{
		Level: warn, Title: noun(v.Refused, "tag") + " cannot be pulled yet", Section: "held", Link: "See why",
		Text: "A rule holds the new image, and no former one is stored, so pulls get 403 with the reason.",
	}}
}

// heldFact says until when the tag that was asked for is held, and why.
func heldFact(x cache.Explanation, now time.Time) fact {
	why := short(heldReason(x.HeldErr), 300)
	if x.HeldUntil.IsZero() {
		return fact{"Not admitted", x.Held.String() + ": " + why}
	}
	verb := "held until "
	if !now.Before(x.HeldUntil) {
		verb = "was held until "
	}
	return fact{"Held", x.Held.String() + ": " + verb + moment(x.HeldUntil, now).Full + " because " + why}
}

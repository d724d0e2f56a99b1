package cache

import "github.com/pullthrough/pullthrough/internal/share"

// SlotUse is how the slots of one kind are used at one moment.
type SlotUse struct {
	Size    int // how many there are
	Held    int // how many are taken
	Waiting int // how many requests or copies wait for one
	// Rules is how many each rule has taken. A rule that has none is not in it.
	Rules map[string]int
}

// Slots is how what [Limits] bounds is used at one moment.
type Slots struct {
	Downloads SlotUse // of Limits.Downloads
	Requests  SlotUse // of Limits.Requests
	Lists     SlotUse // of Limits.Lists
	Jobs      SlotUse // of Limits.Jobs; what waits are the jobs that are queued
}

// Slots returns how slots are used, and by which rules.
func (c *Cache) Slots() Slots {
	e := c.engine()
	return Slots{
		Downloads: slotUse(e.limits.Downloads, e.fetcher.flights.Slots()),
		Requests:  slotUse(e.limits.Requests, e.origins.Slots()),
		Lists:     slotUse(e.limits.Lists, e.listing.Use()),
		Jobs:      slotUse(e.limits.Jobs, e.ledger.Slots()),
	}
}

func slotUse(size int, u share.Use) SlotUse {
	return SlotUse{Size: size, Held: u.Held, Waiting: u.Waiting, Rules: u.Rules}
}

package page

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// The page shows so many receivers and deliveries at most.
const (
	receiverRows = 25
	deliveryRows = 25
)

// deliveriesView is the section of events and their receivers.
type deliveriesView struct {
	Level     level
	All       int // receivers
	Receivers []receiverRow
	Shown     string
	Rows      []deliveryRow
	RowsShown string
	Selected  string // the receiver whose deliveries are shown; empty for all on the page
	AllLink   string // the address that shows those of all

	troubled []webhook.ReceiverState
}

// receiverRow is one receiver.
type receiverRow struct {
	Name      string
	Link      string
	State     state
	Queued    string
	Oldest    when
	Paused    when
	Delivered string
	GaveUp    string
	Dropped   string
}

// deliveryRow is one try to deliver an event.
type deliveryRow struct {
	Key      string
	When     when
	Receiver string
	Event    string // its ID
	Action   string
	Subject  string
	Attempt  int
	State    state
	Error    string
	Duration string
	Next     when
}

// viewDeliveries gathers receivers and deliveries. Receivers in trouble come first.
func (p *Page) viewDeliveries(q query, now time.Time) deliveriesView {
	v := deliveriesView{}
	if p.Outbox == nil {
		return v
	}
	states := p.Outbox.States()
	v.All = len(states)
	slices.SortStableFunc(states, func(a, b webhook.ReceiverState) int {
		return cmp.Or(cmp.Compare(receiverWord(a, now).Level.rank(), receiverWord(b, now).Level.rank()), strings.Compare(a.Name, b.Name))
	})
	var recent []*webhook.Delivery
	kept := 0
	selected := q.get(keyReceiver)
	if !slices.ContainsFunc(states, func(s webhook.ReceiverState) bool { return s.Name == selected }) {
		selected = ""
	}
	v.Selected, v.AllLink = selected, q.link("deliveries", keyReceiver, "")
	for i, s := range states {
		word := receiverWord(s, now)
		if word.Level.rank() < good.rank() {
			v.troubled = append(v.troubled, s)
			v.Level = word.Level
		}
		if i < receiverRows {
			v.Receivers = append(v.Receivers, viewReceiver(s, q, now))
		}
		if i < receiverRows && selected == "" || s.Name == selected {
			list, _ := p.Outbox.Deliveries(s.Name) // of a receiver that has just been listed, or of none
			kept += len(list)
			for j := range list[:min(len(list), deliveryRows)] {
				recent = append(recent, &list[j])
			}
		}
	}
	v.Shown = shown(len(v.Receivers), v.All)
	slices.SortStableFunc(recent, func(a, b *webhook.Delivery) int { return b.Time.Compare(a.Time) })
	for _, d := range recent[:min(len(recent), deliveryRows)] {
		v.Rows = append(v.Rows, viewDelivery(*d, now))
	}
	v.RowsShown = shown(len(v.Rows), kept)
	return v
}

// receiverWord is how a receiver is doing.
func receiverWord(s webhook.ReceiverState, now time.Time) state {
	switch {
	case s.Failures > 1:
		return state{bad, "Fails"}
	case s.Failures > 0:
		return state{warn, "Failed once"}
	case s.Paused.After(now):
		return state{warn, "Asked for a pause"}
	case s.Delivered > 0:
		return state{good, "Takes events"}
	}
	return state{idle, "No event yet"}
}

func viewReceiver(s webhook.ReceiverState, q query, now time.Time) receiverRow {
	row := receiverRow{
		Name: s.Name, Link: q.link("deliveries", keyReceiver, s.Name), State: receiverWord(s, now), Queued: formatNumber(s.Queued),
		Oldest: moment(s.Oldest, now), Delivered: formatNumber(s.Delivered), GaveUp: formatNumber(s.GaveUp), Dropped: formatNumber(s.Dropped),
	}
	if s.Paused.After(now) {
		row.Paused = moment(s.Paused, now)
	}
	return row
}

func viewDelivery(d webhook.Delivery, now time.Time) deliveryRow {
	row := deliveryRow{
		Key: d.Receiver + d.Event.ID + strconv.Itoa(d.Attempt) + d.Time.Format(time.RFC3339Nano), When: moment(d.Time, now), Receiver: d.Receiver, Event: d.Event.ID,
		Action: d.Event.Action, Subject: short(subject(d.Event), 300), Attempt: d.Attempt, Duration: formatDuration(d.Duration), State: state{good, "Delivered"},
	}
	failed := d.Err != nil || d.Error != ""
	if d.Response != nil {
		row.State.Word = fmt.Sprintf("Delivered, %d", d.Response.StatusCode)
	}
	if failed {
		row.State = state{bad, "Failed"}
		if d.Response != nil {
			row.State.Word = fmt.Sprintf("Failed, %d", d.Response.StatusCode)
		}
		row.Error = short(d.Error, 300)
		if row.Error == "" {
			row.Error = short(d.Err.Error(), 300)
		}
		if d.Next.After(now) {
			row.Next = moment(d.Next, now)
		}
	}
	return row
}

// subject names what an event is about.
func subject(e webhook.Event) string {
	if e.Target.Tag == "" && e.Target.Digest != "" {
		return e.Target.Repository + "@" + shortDigest(e.Target.Digest)
	}
	return e.Subject()
}

// notices say which receivers do not take their events.
func (v deliveriesView) notices() []notice {
	const most = 3
	if n := len(v.troubled); n > most {
		return []notice{{
			Level: v.Level, Title: noun(n, "receiver") + " do not take events", Section: "deliveries", Link: "See which",
			Text: "Their events wait, and are tried again.",
		}}
	}
	var list []notice
	for _, s := range v.troubled {
		if s.Failures < 2 {
			continue // one failure is no news yet
		}
		list = append(list, notice{
			Level: warn, Title: "Receiver " + s.Name + " does not take events", Section: "deliveries", Link: "See its deliveries",
			Text: noun(s.Failures, "delivery") + " failed since it answered last; " + noun(s.Queued, "event") + " wait and are tried again.",
		})
	}
	return list
}

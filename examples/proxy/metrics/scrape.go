package metrics

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/cache/fleet"
	"github.com/pullthrough/pullthrough/examples/proxy/prefetch"
	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// scrape sends the figures of one moment.
type scrape struct {
	descs map[string]*prometheus.Desc
	to    chan<- prometheus.Metric
	now   time.Time
}

// count sends a counter, and gauge a value that goes up and down.
func (s *scrape) count(name string, value int64, labels ...string) {
	s.send(name, prometheus.CounterValue, float64(value), labels)
}

func (s *scrape) gauge(name string, value float64, labels ...string) {
	s.send(name, prometheus.GaugeValue, value, labels)
}

func (s *scrape) send(name string, kind prometheus.ValueType, value float64, labels []string) {
	m, err := prometheus.NewConstMetric(s.descs[name], kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(s.descs[name], err)
	}
	s.to <- m
}

// flag is 1 or 0.
func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// age is how long ago something was, in seconds; zero if it was never.
func (s *scrape) age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, s.now.Sub(t).Seconds())
}

// requests sends what clients got. Every outcome of a rule is there from its first request on,
// so that an increase shows.
func (s *scrape) requests(rec *watch.Recorder) {
	for _, r := range rec.Rules() {
		for _, o := range watch.Outcomes() {
			s.count("pullthrough_requests_total", r.Outcomes[o], r.Rule, string(o))
		}
		s.count("pullthrough_sent_bytes_total", r.Bytes, r.Rule)
	}
	for _, o := range watch.Outcomes() {
		upTo, n, sum := rec.FirstByte(o).Read()
		buckets := map[float64]uint64{}
		for i, bound := range watch.Bounds() {
			buckets[bound.Seconds()] = upTo[i]
		}
		m, err := prometheus.NewConstHistogram(s.descs["pullthrough_first_byte_seconds"], n, sum.Seconds(), buckets, string(o))
		if err != nil {
			m = prometheus.NewInvalidMetric(s.descs["pullthrough_first_byte_seconds"], err)
		}
		s.to <- m
	}
}

// upstreams sends what upstream hosts answered.
func (s *scrape) upstreams(hosts []watch.HostState) {
	for _, h := range hosts {
		for _, c := range h.Calls {
			s.count("pullthrough_upstream_requests_total", c.Count, h.Host, string(c.Op), c.Status)
		}
		s.count("pullthrough_upstream_received_bytes_total", h.Bytes, h.Host)
		s.count("pullthrough_upstream_retries_total", h.Retries, h.Host)
		if h.Status != watch.HostUnknown {
			s.gauge("pullthrough_upstream_up", flag(h.Reachable()), h.Host)
			s.gauge("pullthrough_upstream_limited", flag(h.Status == watch.HostLimited), h.Host)
		}
		if b, ok := h.Budget(); ok {
			s.gauge("pullthrough_upstream_budget_remaining", float64(b.Remaining), h.Host)
			s.gauge("pullthrough_upstream_budget_limit", float64(b.Limit), h.Host)
		}
		if !h.LastSuccess.IsZero() {
			s.gauge("pullthrough_upstream_last_success_timestamp_seconds", float64(h.LastSuccess.UnixMilli())/1000, h.Host)
		}
	}
}

// work sends the counters of the cache.
func (s *scrape) work(n cache.Stats) {
	s.count("pullthrough_fetched_bytes_total", n.BytesFetched)
	s.gauge("pullthrough_downloads", float64(n.Downloads))
	s.gauge("pullthrough_download_readers", float64(n.Readers))
	s.count("pullthrough_followers_total", n.Followers)
	s.count("pullthrough_segments_total", n.Segments)
	s.count("pullthrough_blob_connections_total", n.BlobConnections)
	s.count("pullthrough_manifests_fetched_total", n.ManifestsFetched)
	s.count("pullthrough_tag_checks_total", n.Checks)
	s.count("pullthrough_tag_checks_shared_total", n.ChecksShared)
	s.count("pullthrough_adopted_total", n.Adopted)
	s.count("pullthrough_copied_total", n.Copied)
	s.count("pullthrough_copy_failures_total", n.JobsFailed)
	s.count("pullthrough_copy_jobs_dropped_total", n.JobsDropped)
	s.count("pullthrough_store_errors_total", n.StoreErrors)
	s.count("pullthrough_evicted_images_total", n.Evicted)
	s.count("pullthrough_evicted_bytes_total", n.EvictedBytes)
}

// copies sends how many copy jobs are in each state, also in those that none is in.
func (s *scrape) copies(counts map[cache.CopyStatus]cache.CopyCount) {
	for _, state := range []cache.CopyStatus{
		cache.CopyQueued, cache.CopyRunning, cache.CopySubmitted, cache.CopyWaiting, cache.CopyWatching, cache.CopyPaused, cache.CopyParked,
	} {
		s.gauge("pullthrough_copy_jobs", float64(counts[state].Jobs), string(state))
		s.gauge("pullthrough_copy_oldest_seconds", s.age(counts[state].Oldest), string(state))
	}
}

// prefetch sends what became of the prefetch lists.
func (s *scrape) prefetch(n prefetch.Stats) {
	s.gauge("pullthrough_prefetch_images", float64(n.Images))
	s.count("pullthrough_prefetched_total", n.Copied)
	s.count("pullthrough_prefetch_failures_total", n.Failed)
}

// fleet sends what a replica does for the others, and they for it.
func (s *scrape) fleet(members []fleet.Member, n fleet.Stats) {
	dead := 0
	for _, m := range members {
		if m.Dead {
			dead++
		}
	}
	s.gauge("pullthrough_fleet_members", float64(len(members)))
	s.gauge("pullthrough_fleet_dead_members", float64(dead))
	s.count("pullthrough_fleet_filled_total", n.Filled)
	s.count("pullthrough_fleet_followed_total", n.Followed)
	s.count("pullthrough_fleet_received_bytes_total", n.BytesReceived)
	s.count("pullthrough_fleet_served_total", n.Served)
	s.count("pullthrough_fleet_refused_total", n.Refused)
	s.count("pullthrough_fleet_strangers_total", n.Strangers)
	s.count("pullthrough_fleet_questions_total", n.Questions)
	s.count("pullthrough_fleet_failures_total", n.Failures)
	s.count("pullthrough_fleet_overtaken_total", n.Overtaken)
	s.count("pullthrough_fleet_given_total", n.Given)
	s.count("pullthrough_fleet_taken_total", n.Taken)
}

// slots sends how slots are used.
func (s *scrape) slots(all cache.Slots) {
	for _, one := range []struct {
		kind string
		use  cache.SlotUse
	}{{"downloads", all.Downloads}, {"requests", all.Requests}, {"lists", all.Lists}, {"jobs", all.Jobs}} {
		s.gauge("pullthrough_slots", float64(one.use.Size), one.kind)
		s.gauge("pullthrough_slots_held", float64(one.use.Held), one.kind)
		s.gauge("pullthrough_slots_waiting", float64(one.use.Waiting), one.kind)
		for rule, held := range one.use.Rules { // at most as many as slots
			s.gauge("pullthrough_slots_held_by_rule", float64(held), one.kind, rule)
		}
	}
}

// deliveries sends how the events of each receiver go.
func (s *scrape) deliveries(states []webhook.ReceiverState) {
	states = slices.SortedFunc(slices.Values(states), func(a, b webhook.ReceiverState) int { return cmp.Compare(a.Name, b.Name) })
	names := names{}
	sums := map[string]webhook.ReceiverState{}
	for _, r := range states {
		name := names.label(r.Name)
		sum := sums[name]
		sum.Delivered += r.Delivered
		sum.GaveUp += r.GaveUp
		sum.Dropped += r.Dropped
		sum.Queued += r.Queued
		sum.Failures += r.Failures
		if sum.Oldest.IsZero() || !r.Oldest.IsZero() && r.Oldest.Before(sum.Oldest) {
			sum.Oldest = r.Oldest
		}
		sums[name] = sum
	}
	for name, r := range sums {
		s.count("pullthrough_deliveries_total", r.Delivered, name, "delivered")
		s.count("pullthrough_deliveries_total", r.GaveUp, name, "gave-up")
		s.count("pullthrough_deliveries_total", r.Dropped, name, "dropped")
		s.gauge("pullthrough_delivery_queue", float64(r.Queued), name)
		s.gauge("pullthrough_delivery_oldest_seconds", s.age(r.Oldest), name)
		s.gauge("pullthrough_delivery_failures", float64(r.Failures), name)
	}
}

// store sends the size of the store.
func (s *scrape) store(size store.Size, err error) {
	s.gauge("pullthrough_store_up", flag(err == nil))
	if err != nil {
		return
	}
	s.gauge("pullthrough_store_content_bytes", float64(size.Content))
	s.gauge("pullthrough_store_overhead_bytes", float64(size.Overhead))
	if size.Free >= 0 {
		s.gauge("pullthrough_store_free_bytes", float64(size.Free))
	}
}

// credentials sends the health of the credential sets that were used.
func (s *scrape) credentials(sets []*auth.CredentialSet) {
	sets = slices.SortedFunc(slices.Values(sets), func(a, b *auth.CredentialSet) int { return cmp.Compare(a.Name, b.Name) })
	names := names{}
	healthy := map[string]bool{}
	for _, set := range sets {
		h := set.Health().Status
		if h == "" {
			continue // it was not used
		}
		name := names.label(set.Name)
		well, known := healthy[name]
		healthy[name] = h == auth.Healthy && (well || !known)
	}
	for name, well := range healthy {
		s.gauge("pullthrough_credential_set_healthy", flag(well), name)
	}
}

// names are those that are used as values of a label. Their number is bounded.
type names map[string]bool

// label returns a name as the value of a label.
func (n names) label(name string) string {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	name = strings.ToValidUTF8(name, "?")
	if !n[name] && len(n) >= maxNames {
		return watch.Other
	}
	n[name] = true
	return name
}

package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Family is a metric with all its labels.
type Family struct {
	Name, Help string
	Type       string // counter, gauge or histogram
	Labels     []string
}

// Families returns every metric of this package, in the order in which they are documented.
// Those about the Go runtime and the process come from Prometheus' client.
func Families() []Family {
	all := families()
	for i := range all {
		all[i].Labels = slices.Clone(all[i].Labels)
	}
	return all
}

func families() []Family { return slices.Concat(workFamilies(), fleetFamilies(), storeFamilies()) }

// workFamilies are about requests, upstreams, downloads, copies and events.
func workFamilies() []Family {
	rule, host, state, receiver := []string{"rule"}, []string{"host"}, []string{"state"}, []string{"receiver"}
	return []Family{
		{"pullthrough_requests_total", "Requests of clients that ended, by rule and outcome.", "counter", []string{"rule", "outcome"}},
		{"pullthrough_sent_bytes_total", "Bytes of bodies sent to clients, by rule.", "counter", rule},
		{"pullthrough_fetched_bytes_total", "Bytes of manifests and blobs received from upstreams.", "counter", nil},
		{"pullthrough_first_byte_seconds", "Time until the header of an answer, by outcome.", "histogram", []string{"outcome"}},

		{"pullthrough_upstream_requests_total", "Calls of upstreams that ended, by host, operation and status.", "counter", []string{"host", "op", "status"}},
		{"pullthrough_upstream_received_bytes_total", "Bytes received from an upstream host.", "counter", host},
		{"pullthrough_upstream_retries_total", "Requests that were sent to an upstream host again.", "counter", host},
		{"pullthrough_upstream_up", "Whether an upstream host answered when it was asked last: 1 or 0.", "gauge", host},
		{"pullthrough_upstream_limited", "Whether an upstream host said last that it is asked too often: 1 or 0.", "gauge", host},
		{"pullthrough_upstream_last_success_timestamp_seconds", "When an upstream host last answered with success.", "gauge", host},

		{"pullthrough_upstream_budget_remaining", "Requests that an upstream host still allows, of the account that has fewest left.", "gauge", host},
		{"pullthrough_upstream_budget_limit", "Requests that an upstream host allows that account in its window.", "gauge", host},

		{"pullthrough_downloads", "Blobs that are being downloaded (flights).", "gauge", nil},
		{"pullthrough_download_readers", "Requests and copies that use those downloads.", "gauge", nil},
		{"pullthrough_followers_total", "Requests for a blob that joined a download.", "counter", nil},
		{"pullthrough_segments_total", "Parts of blobs that were asked for over further connections.", "counter", nil},
		{"pullthrough_blob_connections_total", "Requests to upstreams for blobs and parts of them.", "counter", nil},
		{"pullthrough_manifests_fetched_total", "Manifests fetched from upstreams.", "counter", nil},
		{"pullthrough_tag_checks_total", "Tag checks sent to upstreams.", "counter", nil},
		{"pullthrough_tag_checks_shared_total", "Pulls by tag that used the tag check of another one.", "counter", nil},
		{"pullthrough_adopted_total", "Blobs linked from another repository without a download.", "counter", nil},

		{"pullthrough_copy_jobs", "Copy jobs that are not finished, by state.", "gauge", state},
		{"pullthrough_copy_oldest_seconds", "Age of the oldest copy job, by state.", "gauge", state},
		{"pullthrough_copied_total", "Manifests that became complete.", "counter", nil},
		{"pullthrough_copy_failures_total", "Copies that failed and are tried again.", "counter", nil},
		{"pullthrough_copy_jobs_dropped_total", "Copy jobs that found the queue full.", "counter", nil},

		{"pullthrough_held_tags", "Tags whose new image is not admitted.", "gauge", nil},

		{"pullthrough_prefetch_images", "Images in the prefetch lists.", "gauge", nil},
		{"pullthrough_prefetched_total", "Images of prefetch lists that were copied or found complete.", "counter", nil},
		{"pullthrough_prefetch_failures_total", "Images of prefetch lists that were not copied at one of their times.", "counter", nil},

		{"pullthrough_deliveries_total", "Events that ended, by receiver and result.", "counter", []string{"receiver", "result"}},
		{"pullthrough_delivery_queue", "Events that wait for a receiver.", "gauge", receiver},
		{"pullthrough_delivery_oldest_seconds", "Age of the oldest event that waits for a receiver.", "gauge", receiver},
		{"pullthrough_delivery_failures", "Deliveries that failed since the receiver last answered.", "gauge", receiver},
	}
}

// fleetFamilies are about the other replicas.
func fleetFamilies() []Family {
	return []Family{
		{"pullthrough_fleet_members", "Replicas of the fleet, this one included.", "gauge", nil},
		{"pullthrough_fleet_dead_members", "Replicas that did not answer when they were asked last.", "gauge", nil},
		{"pullthrough_fleet_filled_total", "Connections to upstreams for blobs that replicas share.", "counter", nil},
		{"pullthrough_fleet_followed_total", "Requests for blobs to other replicas.", "counter", nil},
		{"pullthrough_fleet_received_bytes_total", "Bytes of blobs received from other replicas.", "counter", nil},
		{"pullthrough_fleet_served_total", "Requests of other replicas for blobs that were answered.", "counter", nil},
		{"pullthrough_fleet_refused_total", "Requests of other replicas for blobs that were sent to another one, or away.", "counter", nil},
		{"pullthrough_fleet_strangers_total", "Requests at the address for replicas without proof that one sent them.", "counter", nil},
		{"pullthrough_fleet_questions_total", "Questions to other replicas whether they have a blob or bring it.", "counter", nil},
		{"pullthrough_fleet_failures_total", "Requests to other replicas that were not answered, or not to the end.", "counter", nil},
		{"pullthrough_fleet_overtaken_total", "Connections to upstreams that were given up since another replica went on.", "counter", nil},
		{"pullthrough_fleet_given_total", "Copy jobs that another replica took.", "counter", nil},
		{"pullthrough_fleet_taken_total", "Copy jobs of other replicas that this one took.", "counter", nil},
	}
}

// storeFamilies are about the store, credential sets and slots.
func storeFamilies() []Family {
	slots := []string{"kind"}
	return []Family{
		{"pullthrough_store_up", "Whether the store told its size in time: 1 or 0.", "gauge", nil},
		{"pullthrough_store_content_bytes", "Bytes of stored content, each piece counted once.", "gauge", nil},
		{"pullthrough_store_overhead_bytes", "Bytes that the store uses beside its content.", "gauge", nil},
		{"pullthrough_store_free_bytes", "Bytes that the store has room for.", "gauge", nil},
		{"pullthrough_store_errors_total", "Failures of the store that clients did not notice.", "counter", nil},
		{"pullthrough_evicted_images_total", "Images that were evicted.", "counter", nil},
		{"pullthrough_evicted_bytes_total", "Bytes that evicted images left.", "counter", nil},

		{"pullthrough_credential_set_healthy", "Whether a credential set worked when it was used last: 1 or 0.", "gauge", []string{"set"}},

		{"pullthrough_slots", "Slots, by kind.", "gauge", slots},
		{"pullthrough_slots_held", "Slots that are taken, by kind.", "gauge", slots},
		{"pullthrough_slots_waiting", "Requests or copies that wait for a slot, by kind.", "gauge", slots},
		{"pullthrough_slots_held_by_rule", "Slots that a rule has taken, by kind.", "gauge", []string{"kind", "rule"}},
	}
}

// descs are the descriptions of all families, by name.
func descs() map[string]*prometheus.Desc {
	m := map[string]*prometheus.Desc{}
	for _, f := range families() {
		m[f.Name] = prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
	}
	return m
}

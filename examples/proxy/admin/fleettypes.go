package admin

// Fleet is the answer of GET /api/v1/fleet: the replicas that share their downloads, as this one
// sees them.
type Fleet struct {
	// Self is the address of this replica.
	Self string `json:"self"`
	// Members are all replicas, in the order of their addresses.
	Members []Member `json:"members"`
	// Blobs are under way here, and Total counts them.
	Blobs []FleetBlob `json:"blobs"`
	Total int         `json:"total"`
	Stats FleetStats  `json:"stats"`
}

// Member is one replica.
type Member struct {
	Address string `json:"address"`
	Self    bool   `json:"self,omitempty"`
	// Dead says that it did not answer when it was asked last, and is passed over.
	Dead bool `json:"dead,omitempty"`
}

// FleetBlob is a blob that this replica brings, or gets from another one.
type FleetBlob struct {
	Rule   string `json:"rule,omitempty"`
	Source string `json:"source"`
	Digest string `json:"digest"`
	// Connections is how many connections to the upstream bring it here, From the replica that
	// sends it in place of that, and Served how many requests of other replicas get it from here.
	Connections int    `json:"connections"`
	From        string `json:"from,omitempty"`
	Served      int    `json:"served"`
}

// FleetStats are the counters; see fleet.Stats.
type FleetStats struct {
	Filled        int64 `json:"filled"`
	Followed      int64 `json:"followed"`
	BytesReceived int64 `json:"bytesReceived"`
	Served        int64 `json:"served"`
	Refused       int64 `json:"refused"`
	Strangers     int64 `json:"strangers"`
	Questions     int64 `json:"questions"`
	Failures      int64 `json:"failures"`
	Overtaken     int64 `json:"overtaken"`
	Given         int64 `json:"given"`
	Taken         int64 `json:"taken"`
}

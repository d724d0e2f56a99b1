package e2e

import (
	"net/http"
	"syscall"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// quietEvents is a fleet to which nothing happens, and no fleet.
func quietEvents() []fleetEvent {
	return []fleetEvent{
		{name: "none, each alone", owner: -1, most: 3, edit: func(r *fleetRig) {
			for _, p := range r.replicas {
				p.Listen = ""
			}
		}},
		{name: "none", owner: -1, most: 1},
		{name: "none, six replicas", replicas: 6, owner: -1, most: 1},
		{name: "none, TLS with certificates", owner: -1, most: 1, edit: (*fleetRig).useTLS},
	}
}

// replicaEvents are those of the replica that fetches the blob.
func replicaEvents() []fleetEvent {
	return []fleetEvent{
		{name: "filler killed", owner: -1, most: once, lost: true, at: func(s *blobStory, _ *pulls) {
			s.r.replicas[s.filler].kill()
		}},
		// The kernel takes more than a MiB for the process that is stopped.
		{name: "filler stopped for 5 s", owner: -1, size: 96 << 20, rate: 32 << 20, most: once, at: func(s *blobStory, _ *pulls) {
			p := s.r.replicas[s.filler]
			p.signal(syscall.SIGSTOP)
			time.AfterFunc(5*time.Second, func() { p.signal(syscall.SIGCONT) })
			s.slow = []int{s.filler}
		}},
		{name: "filler killed, restarted after 0.3 s", owner: -1, most: once, lost: true, at: func(s *blobStory, p *pulls) {
			s.r.replicas[s.filler].kill()
			time.Sleep(300 * time.Millisecond)
			s.r.start(s.r.replicas[s.filler])
			p.begin(s.filler, s.d)
		}},
		// At 23 MiB, long after a checkpoint that every download has. The early ones wait for a
		// disk that is busy.
		{name: "all killed, restarted", owner: -1, size: 58 << 20, rate: 32 << 20, most: 1.2, none: true, at: func(s *blobStory, p *pulls) {
			for _, r := range s.r.replicas {
				r.kill()
			}
			p.lose()
			s.r.start(s.r.replicas...)
			for i := range 2 * len(s.r.replicas) {
				p.begin(i%len(s.r.replicas), s.d)
			}
		}, then: (*blobStory).wantGood},
	}
}

// viewEvents are replicas that do not agree on who belongs to the fleet.
func viewEvents() []fleetEvent {
	return []fleetEvent{
		{name: "the owner joins", replicas: 4, late: true, owner: 3, most: 1, at: func(s *blobStory, p *pulls) {
			s.r.know(s.r.addresses()...)
			s.r.start(s.r.replicas[3])
			p.begin(3, s.d)
		}},
		{name: "only the owner knows of itself", replicas: 4, owner: 3, most: 1, quiet: 1, edit: unknownOwner, at: func(s *blobStory, p *pulls) {
			p.begin(3, s.d)
		}},
		{name: "only the owner knows of itself, all at once", replicas: 4, owner: 3, most: 1, edit: unknownOwner},
		{name: "all unreachable", owner: -1, most: 3, edit: func(r *fleetRig) {
			for i, p := range r.replicas {
				p.Self = []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}[i]
			}
			r.know(r.addresses()...)
		}},
		{name: "each knows only itself", owner: -1, most: 3, edit: func(r *fleetRig) {
			for _, p := range r.replicas {
				p.know(p.Self)
			}
		}},
		// No two lists are alike, until they have asked one another.
		{name: "each knows only the next", owner: -1, most: once, edit: func(r *fleetRig) {
			for i, p := range r.replicas {
				p.know(p.Self, r.replicas[(i+1)%len(r.replicas)].Self)
			}
		}},
	}
}

// unknownOwner takes the last replica from the lists of the others.
func unknownOwner(r *fleetRig) {
	for _, p := range r.replicas[:len(r.replicas)-1] {
		p.know(r.addresses()[:len(r.replicas)-1]...)
	}
}

// upstreamEvents are what the upstream does to the replica that asks it first.
func upstreamEvents() []fleetEvent {
	return []fleetEvent{
		{name: "upstream stalls", owner: -1, most: once, idle: 3 * time.Second, fault: &upstreamtest.Fault{Kind: "blob", Stall: 6 << 20, Times: 1}},
		{name: "upstream cuts", owner: -1, most: once, fault: &upstreamtest.Fault{Kind: "blob", Cut: 6 << 20, Times: 1}},
		{name: "upstream says 429", owner: -1, most: once, lost: true, fault: &upstreamtest.Fault{Kind: "blob", Status: http.StatusTooManyRequests, RetryAfter: "2", Times: 1}},
		{name: "upstream says 404", owner: -1, most: 0, none: true, fault: &upstreamtest.Fault{Kind: "blob", Status: http.StatusNotFound}, then: func(s *blobStory) {
			for _, p := range s.all {
				if p.status != http.StatusNotFound {
					s.r.t.Errorf("want 404: %v", p)
				}
			}
		}},
		{name: "upstream sends wrong bytes", owner: -1, most: once, none: true, fault: &upstreamtest.Fault{Kind: "blob", Flip: true, FlipAt: 9 << 20, Times: 1}, then: func(s *blobStory) {
			for i := range s.r.replicas {
				if again := s.r.pull(i, "blobs/"+s.d.String()); !again.good(s.d) {
					s.r.t.Errorf("the pull after wrong bytes: %v", again)
				}
			}
			s.wantSent(once + 1)
		}},
	}
}

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// netVariable says to a process of the tests that its network is its own.
const netVariable = "E2E_OWN_NETWORK"

// inOwnNetwork runs the test again in a process whose network is its own, and reports whether
// this is that process. Networks, links and rules end with the processes in them, however
// those end. It needs root.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	tool(t, "ip")
	tool(t, "nsenter")
	if os.Getenv(netVariable) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make networks")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), netVariable+"=1")
	bindToTests(cmd)
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("this system makes no networks: %v", err)
	}
	err := cmd.Wait()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// network is a router, which is this process, with replicas around it, each a machine of its
// own as far as the kernel is concerned. No two of them have the same address in a test, so
// that what is left of one rig does not matter to the next.
type network struct{ machines atomic.Int64 }

// upstreamHost is the address of the upstream, at the router.
const upstreamHost = "10.77.0.1"

// newNetwork makes the network of this process a router.
func newNetwork(t *testing.T) *network {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	ip(t, "addr", "add", upstreamHost+"/32", "dev", "lo")
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	return &network{}
}

// rig makes a rig with n replicas.
func (n *network) rig(t *testing.T, replicas int) *fleetRig {
	t.Helper()
	r := newFleetRigAt(t, upstreamHost+":0")
	for range replicas {
		subnet := fmt.Sprintf("10.77.%d.", n.machines.Add(1))
		p := r.add(subnet+"2:5000", subnet+"2:5443")
		p.Open, p.Listen = ":5000", ":5443" // the address comes later than the process
		p.inside = func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }
		p.ready = func(p *process) { plug(t, subnet, p.cmd.Process.Pid) }
	}
	r.know(r.addresses()...)
	return r
}

// plug connects the network of a process to the router, which has to be done before the
// process can be reached.
func plug(t *testing.T, subnet string, pid int) {
	t.Helper()
	link := fmt.Sprintf("to%d", pid)
	ip(t, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(pid))
	ip(t, "addr", "add", subnet+"1/30", "dev", link)
	ip(t, "link", "set", link, "up")
	within := func(args ...string) {
		command(t, tool(t, "nsenter"), append([]string{"-t", fmt.Sprint(pid), "-n", tool(t, "ip")}, args...)...)
	}
	within("link", "set", "lo", "up")
	within("addr", "add", subnet+"2/30", "dev", "eth0")
	within("link", "set", "eth0", "up")
	within("route", "add", "default", "via", subnet+"1")
}

// ip changes the network of this process.
func ip(t *testing.T, args ...string) {
	t.Helper()
	command(t, tool(t, "ip"), args...)
}

// cut drops all packets between two addresses from now on, without a word to either.
func cut(t *testing.T, a, b string) {
	t.Helper()
	ip(t, "rule", "add", "from", a, "to", b, "blackhole")
	ip(t, "rule", "add", "from", b, "to", a, "blackhole")
}

// mend undoes cut.
func mend(t *testing.T, a, b string) {
	t.Helper()
	ip(t, "rule", "del", "from", a, "to", b, "blackhole")
	ip(t, "rule", "del", "from", b, "to", a, "blackhole")
}

// TestFleetPartition pulls one blob from all replicas at once while packets between them are
// dropped.
func TestFleetPartition(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	n := newNetwork(t)
	b := newBlobTable(t)
	for _, e := range partitions() {
		e.make = n.rig
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e.run(t, b)
		})
	}
}

// host is the address of a replica without its port.
func (p *fleetReplica) host() string {
	host, _, _ := net.SplitHostPort(p.Self) // made by rig
	return host
}

// partitions are what the network does. The blobs take 4 s, so that most of them is still to
// come when a replica has found out that another one is silent.
func partitions() []fleetEvent {
	// between cuts two replicas off from one another, by their ranks.
	between := func(s *blobStory, a, b int) {
		ranked := s.r.rank(s.d, s.r.addresses())
		cut(s.r.t, s.r.replicas[ranked[a]].host(), s.r.replicas[ranked[b]].host())
	}
	filler := func(s *blobStory) {
		between(s, 0, 1)
		between(s, 0, 2)
	}
	all := func(s *blobStory) {
		filler(s)
		between(s, 1, 2)
	}
	events := []fleetEvent{
		{name: "none", most: 1},
		{name: "filler and a follower cut off in mid blob", most: once, at: func(s *blobStory, _ *pulls) { between(s, 0, 1) }},
		{name: "filler and a follower cut off before", most: once, before: func(s *blobStory) { between(s, 0, 1) }},
		{name: "two followers cut off before", most: 1, before: func(s *blobStory) { between(s, 1, 2) }},
		{name: "filler cut off from all in mid blob", most: 1.65, at: func(s *blobStory, _ *pulls) { filler(s) }},
		{name: "filler cut off from all before", most: 2, before: filler},
		{name: "all cut off from all in mid blob", most: 2.3, at: func(s *blobStory, _ *pulls) { all(s) }},
		{name: "all cut off from all before", most: 3, before: all},
		{name: "filler cut off from the upstream for 5 s", most: once, idle: 3 * time.Second, at: func(s *blobStory, _ *pulls) {
			host := s.r.replicas[s.filler].host()
			cut(s.r.t, host, upstreamHost)
			s.goOn()
			time.Sleep(5 * time.Second)
			mend(s.r.t, host, upstreamHost)
		}},
	}
	for i := range events {
		events[i].owner, events[i].size = -1, 64<<20
	}
	return events
}

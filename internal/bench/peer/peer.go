// Package peer knows the servers that are compared: how each is configured and started.
// All run unprivileged, as far as the user who starts them is, on loopback, with
// everything in a temporary folder, and with no log of requests.
package peer

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pullthrough/pullthrough/internal/bench/proc"
)

// The names of peers.
const (
	Cache        = "this cache"
	Bare         = "bare net/http"
	BareAsking   = "bare, asking"
	Nginx        = "nginx"
	Varnish      = "varnish"
	Distribution = "distribution"
	Direct       = "direct"
)

// Setting is what a server is started with.
type Setting struct {
	// Program is the program of the peer. Those of Cache and Bare are this one.
	Program string
	// Folder is where everything lies: empty at the first start.
	Folder string
	// Address is where it listens.
	Address string
	// Upstream is the address of the registry.
	Upstream string
	// Catalog is a file with the content of the registry.
	Catalog string
	// Window says that a tag is trusted for a day and not asked about at each pull.
	Window bool
	// Root says that the user is root.
	Root bool
}

// Peer is a server that is compared.
type Peer struct {
	// Name is the head of its column.
	Name string
	// Tool is the program that it needs. If empty, it is a part of this program.
	Tool string
	// Command says how to start it. If nil, there is no server, and clients go to the
	// registry itself.
	Command func(Setting) proc.Command
	// Window says that it can be told to trust tags for a while, and keeps what it has
	// cached when it is started anew for that. The others always do, or never.
	Window bool
}

// All returns every peer, this cache first.
func All() []Peer {
	return []Peer{
		{Name: Cache, Command: cacheCommand, Window: true},
		{Name: Bare, Command: bareCommand},
		{Name: BareAsking, Command: bareAskingCommand},
		{Name: Nginx, Tool: "nginx", Command: nginxCommand},
		{Name: Varnish, Tool: "varnishd", Command: varnishCommand},
		{Name: Distribution, Tool: "registry", Command: distributionCommand},
		{Name: Direct},
	}
}

// Find looks a tool up: in a folder, on PATH, and where packages put servers. It returns
// an absolute path, or an empty one.
func Find(folder, tool string) string {
	for _, name := range []string{filepath.Join(folder, tool), tool, filepath.Join("/usr/sbin", tool)} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// split separates an address into host and port.
func split(address string) (host, port string) {
	i := strings.LastIndexByte(address, ':')
	return address[:i], address[i+1:]
}

// cacheCommand starts [github.com/pullthrough/pullthrough/internal/bench/serve.Cache].
func cacheCommand(s Setting) proc.Command {
	freshness := "0s"
	if s.Window {
		freshness = "24h"
	}
	return proc.Command{Args: []string{s.Program, "serve-cache", "-listen", s.Address, "-upstream", s.Upstream,
		"-store", filepath.Join(s.Folder, "store"), "-freshness", freshness}}
}

// bareCommand starts [github.com/pullthrough/pullthrough/internal/bench/serve.Bare], which
// has everything from the start and asks nobody.
func bareCommand(s Setting) proc.Command {
	return proc.Command{Args: []string{s.Program, "serve-bare", "-listen", s.Address, "-catalog", s.Catalog}}
}

// bareAskingCommand is the same with a HEAD at each pull by tag.
func bareAskingCommand(s Setting) proc.Command {
	c := bareCommand(s)
	c.Args = append(c.Args, "-ask", s.Upstream)
	return c
}

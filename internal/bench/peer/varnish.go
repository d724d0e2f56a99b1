package peer

import (
	"fmt"
	"path/filepath"

	"github.com/pullthrough/pullthrough/internal/bench/proc"
)

// varnishConfig caches everything for a day, and so trusts tags for a day.
const varnishConfig = `vcl 4.1;
backend default { .host = "%s"; .port = "%s"; .first_byte_timeout = 600s; .between_bytes_timeout = 600s; }
sub vcl_recv { return (hash); }
sub vcl_backend_response {
	if (beresp.status != 200) { return (fail); }
	set beresp.ttl = 1d;
	set beresp.do_gzip = false;
}
`

// varnishMemory is how much varnish may keep. It keeps everything in memory.
const varnishMemory = "malloc,4G"

func varnishCommand(s Setting) proc.Command {
	file := filepath.Join(s.Folder, "default.vcl")
	host, port := split(s.Upstream)
	return proc.Command{
		// No jail: it would need another user. Each connection takes a thread of one of
		// two pools, and with the default of 100 the last of 200 clients would wait.
		Args: []string{s.Program, "-F", "-j", "none", "-n", filepath.Join(s.Folder, "work"), "-a", s.Address, "-f", file,
			"-s", varnishMemory, "-p", "thread_pool_min=250", "-p", "timeout_idle=600", "-p", "send_timeout=600", "-p", "idle_send_timeout=600"},
		Files: map[string]string{file: fmt.Sprintf(varnishConfig, host, port)},
	}
}

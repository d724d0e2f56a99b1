package peer

import (
	"fmt"
	"path/filepath"

	"github.com/pullthrough/pullthrough/internal/bench/proc"
)

// nginxConfig is how nginx is run as a cache of a registry: one download for all who
// ask meanwhile, connections that are kept on both sides, and the kernel sends. It
// trusts tags for a day: a tag that is asked about each time is nothing that
// proxy_cache has.
const nginxConfig = `%[1]sdaemon off;
worker_processes auto;
pid %[2]s/pid;
error_log stderr error;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_timeout 600s;
	keepalive_requests 1000000000;
	send_timeout 600s;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	proxy_cache_path %[2]s/cache levels=1:2 keys_zone=registry:64m inactive=7d use_temp_path=off;
	upstream registry {
		server %[3]s;
		keepalive 64;
		keepalive_requests 1000000000;
	}
	server {
		listen %[4]s backlog=4096;
		location / {
			proxy_pass http://registry;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache registry;
			proxy_cache_key $uri;
			proxy_cache_valid 200 1d;
			proxy_cache_lock on;
			proxy_cache_lock_age 600s;
			proxy_cache_lock_timeout 600s;
		}
	}
}
`

func nginxCommand(s Setting) proc.Command {
	user := ""
	if s.Root {
		user = "user root;\n" // or its workers cannot read the folder
	}
	file := filepath.Join(s.Folder, "nginx.conf")
	return proc.Command{
		Args:  []string{s.Program, "-p", s.Folder, "-e", "stderr", "-c", file},
		Files: map[string]string{file: fmt.Sprintf(nginxConfig, user, s.Folder, s.Upstream, s.Address)},
	}
}

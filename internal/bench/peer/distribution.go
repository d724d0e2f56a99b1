package peer

import (
	"fmt"
	"path/filepath"

	"github.com/pullthrough/pullthrough/internal/bench/proc"
)

// distributionConfig is the registry of the distribution project in proxy mode, which
// asks upstream at each pull of a tag.
const distributionConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
  maintenance: {uploadpurging: {enabled: false}}
http: {addr: %q, secret: bench}
proxy: {remoteurl: %q}
`

func distributionCommand(s Setting) proc.Command {
	file := filepath.Join(s.Folder, "registry.yml")
	return proc.Command{
		Args:  []string{s.Program, "serve", file},
		Env:   []string{"OTEL_TRACES_EXPORTER=none"},
		Files: map[string]string{file: fmt.Sprintf(distributionConfig, filepath.Join(s.Folder, "data"), s.Address, "http://"+s.Upstream)},
	}
}

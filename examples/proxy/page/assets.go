package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"path"
	"time"

	"github.com/pullthrough/pullthrough/examples/proxy/watch"
	"github.com/pullthrough/pullthrough/store"
)

//go:embed files
var files embed.FS

// asset is a file that the page loads.
type asset struct {
	name string
	data []byte
	etag string
}

// load reads the embedded files. They are a part of the program, so that a mistake in them
// shows at the first request of the first test.
func (p *Page) load() {
	if p.Size != nil {
		p.size.ask = &watch.Patient[store.Size]{Call: p.Size, Patience: sizeWait}
	}
	p.making = make(chan struct{}, atOnce)
	p.pages = template.Must(template.New("").Funcs(functions()).ParseFS(files, "files/*.html"))
	p.assets = map[string]asset{}
	for _, name := range []string{"page.css", "page.js", "icon.svg"} {
		data, err := files.ReadFile("files/" + name)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(data)
		p.assets["/"+name] = asset{name: name, data: data, etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
}

// serve answers with the file. Browsers ask each time whether it has changed, so that a page
// never has the files of another version of the program.
func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", map[string]string{
		".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
	}[path.Ext(a.name)])
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}

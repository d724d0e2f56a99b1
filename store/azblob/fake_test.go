package azblob

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pullthrough/pullthrough/auth"
)

// fake is the part of Azure's Blob service that this package uses, with one container. It
// is modelled on the public reference of the service.
type fake struct {
	t      *testing.T
	server *httptest.Server

	mu     sync.Mutex
	blobs  map[string]fakeBlob
	blocks map[string]map[string][]byte // uncommitted ones, by key and ID
	n      int
	fault  func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)
	early  bool // faults do not wait for the body of the request
	page   int  // the size of pages; 0 is that of Azure

	hierarchical bool // lists are in the order of folders
}

type fakeBlob struct {
	data []byte
	etag string
	mark string
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, blobs: map[string]fakeBlob{}, blocks: map[string]map[string][]byte{}}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

// access opens the container with a SAS, and repeats requests at once.
func (f *fake) access(c *http.Client) ClientOptions {
	return ClientOptions{URL: f.server.URL + "/account/images", SAS: auth.NewSensitive(fakeSAS), HTTP: c,
		Retry: policy.RetryOptions{RetryDelay: 1, MaxRetryDelay: 1}}
}

// fakeSAS is a shared access signature; secret must never be in an error.
const (
	secret  = "SECRETsignature"
	fakeSAS = "sv=2026-06-06&sr=c&sp=racwdl&sig=" + secret
)

func (f *fake) bucket() *bucket { return newBucket(f.client()) }

func (f *fake) client() *container.Client { return f.clientOver(&http.Transport{}) }

// clientOver returns a client with another transport.
func (f *fake) clientOver(rt http.RoundTripper) *container.Client {
	c, err := NewClient(f.access(&http.Client{Transport: rt}))
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// meddle sets what happens to requests from now on. If nil, they are served.
func (f *fake) meddle(fault func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	fault, early := f.fault, f.early
	f.mu.Unlock()
	if !early {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	if fault != nil {
		fault(w, r, f.serve)
		return
	}
	f.serve(w, r)
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/account/images")
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	switch key = strings.TrimPrefix(key, "/"); {
	case !ok:
		refuse(w, http.StatusNotFound, "ContainerNotFound")
	case q.Get("comp") == "list":
		f.list(w, r)
	case q.Get("comp") == "block":
		if f.blocks[key] == nil {
			f.blocks[key] = map[string][]byte{}
		}
		f.blocks[key][q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		f.put(w, r, key, body)
	case r.Method == http.MethodDelete:
		if _, there := f.blobs[key]; !there {
			refuse(w, http.StatusNotFound, "BlobNotFound")
			return
		}
		delete(f.blobs, key)
		w.WriteHeader(http.StatusAccepted)
	default:
		f.get(w, r, key)
	}
}

// refuse writes an error as Azure does, with something secret in its text.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.Header().Set("X-Ms-Request-Id", "0a1b2c3d-0000-0000-0000-000000000000")
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>Signature %s did not match.</Message></Error>`, code, secret)
}

// put is Put Blob and Put Block List.
func (f *fake) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	old, there := f.blobs[key]
	if r.Header.Get("If-None-Match") == "*" && there {
		refuse(w, http.StatusConflict, "BlobAlreadyExists")
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && match != old.etag {
		refuse(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	if r.URL.Query().Get("comp") == "blocklist" {
		var list struct{ Latest []string }
		if err := xml.Unmarshal(body, &list); err != nil {
			f.t.Errorf("a block list that is no XML: %v", err)
		}
		body = nil
		for _, id := range list.Latest {
			block, ok := f.blocks[key][id]
			if !ok {
				refuse(w, http.StatusBadRequest, "InvalidBlockList")
				return
			}
			body = append(body, block...)
		}
	} else if r.Header.Get("X-Ms-Blob-Type") != "BlockBlob" {
		f.t.Errorf("a PUT of a blob of type %q", r.Header.Get("X-Ms-Blob-Type"))
	}
	delete(f.blocks, key) // of other uploads, too
	f.n++
	blob := fakeBlob{body, fmt.Sprintf(`"0x%016X"`, f.n), r.Header.Get("X-Ms-Meta-" + markName)}
	f.blobs[key] = blob
	w.Header().Set("Etag", blob.etag)
	w.WriteHeader(http.StatusCreated)
}

func (f *fake) get(w http.ResponseWriter, r *http.Request, key string) {
	blob, there := f.blobs[key]
	if !there {
		refuse(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	w.Header().Set("Etag", blob.etag)
	if blob.mark != "" {
		w.Header().Set("X-Ms-Meta-"+markName, blob.mark)
	}
	data, status := blob.data, http.StatusOK
	if from, ok := strings.CutPrefix(r.Header.Get("X-Ms-Range"), "bytes="); ok {
		n, err := strconv.Atoi(strings.TrimSuffix(from, "-"))
		if err != nil || n >= len(data) {
			refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n, len(data)-1, len(data)))
		data, status = data[n:], http.StatusPartialContent
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(data)
	}
}

type fakeList struct {
	XMLName    xml.Name   `xml:"EnumerationResults"`
	Blobs      []fakeName `xml:"Blobs>Blob"`
	Groups     []fakeName `xml:"Blobs>BlobPrefix"`
	NextMarker string
}

type fakeName struct{ Name string }

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	size, _ := strconv.Atoi(q.Get("maxresults"))
	if f.page > 0 {
		size = min(size, f.page)
	}
	var list fakeList
	last := ""
	keys := slices.Sorted(maps.Keys(f.blobs))
	if f.hierarchical {
		slices.SortFunc(keys, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
	}
	for _, key := range keys {
		rest, below := strings.CutPrefix(key, q.Get("prefix"))
		if !below || key <= q.Get("marker") {
			continue
		}
		if size--; size < 0 {
			list.NextMarker = last
			break
		}
		last = key
		group, _, folded := strings.Cut(rest, cmp.Or(q.Get("delimiter"), "\x00"))
		if !folded {
			list.Blobs = append(list.Blobs, fakeName{key})
			continue
		}
		name := fakeName{q.Get("prefix") + group + q.Get("delimiter")}
		if !slices.Contains(list.Groups, name) {
			list.Groups = append(list.Groups, name)
		}
	}
	w.Header().Set("Content-Type", "application/xml")
	if err := xml.NewEncoder(w).Encode(list); err != nil {
		f.t.Error(err)
	}
}

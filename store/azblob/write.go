package azblob

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// Requests with their retries end after these times, lest one that never ends keeps a copy
// or a client waiting. Downloads end with their readers instead.
const (
	smallTimeout = time.Minute
	blockTimeout = 5 * time.Minute
)

// payload is the body of a request. The SDK rewinds it to repeat the request, and net/http may
// still be reading it for the response that came too early. So it is guarded; a repeated
// request that loses bytes to the former one is short, fails, and is repeated again.
type payload struct {
	mu sync.Mutex
	r  *bytes.Reader
}

func newPayload(data []byte) *payload { return &payload{r: bytes.NewReader(data)} }

func (p *payload) Read(buf []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.r.Read(buf)
}

func (p *payload) Seek(offset int64, whence int) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.r.Seek(offset, whence)
}

func (p *payload) Close() error { return nil }

// conditions returns what a write depends on.
func conditions(cond objectstore.Condition) *blob.AccessConditions {
	etag := azcore.ETag(cond)
	switch cond {
	case objectstore.Always:
		return nil
	case objectstore.IfAbsent:
		return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &etag}}
	}
	return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: &etag}}
}

// mark names a write in the metadata of the blob that it writes. The SDK repeats a request
// whose response was lost; a conditional write that had succeeded is then refused because
// of itself, and its mark tells.
type mark string

// markName is the name of the mark in the metadata.
const markName = "pullthroughwrite"

func newMark() mark { return mark(rand.Text()) }

// metadata returns what the blob is to have if the write depends on a condition.
func (m mark) metadata(cond objectstore.Condition) map[string]*string {
	if cond == objectstore.Always {
		return nil
	}
	text := string(m)
	return map[string]*string{markName: &text}
}

// written returns the outcome of a write that ended with err, as fail returned it: no error
// if it was refused because it had succeeded before.
func (b *bucket) written(ctx context.Context, key string, m mark, cond objectstore.Condition, err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		switch {
		case cond == objectstore.Always && r.status != http.StatusBadRequest:
			r.means = nil
		case r.means == store.ErrNotFound: // what was to be replaced
			r.means = objectstore.ErrChanged
		}
	}
	if !errors.Is(err, objectstore.ErrChanged) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	props, failed := b.blob(key).GetProperties(ctx, nil)
	if failed != nil {
		return err // such as of another one that was deleted meanwhile
	}
	for name, value := range props.Metadata {
		if strings.EqualFold(name, markName) && value != nil && mark(*value) == m {
			return nil
		}
	}
	return err
}

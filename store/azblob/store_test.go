package azblob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

// openStore returns the store of a replica.
func openStore(t *testing.T, c *container.Client, replica string) *Store {
	t.Helper()
	s, err := New(Options{Client: c, Prefix: "cache", Replica: replica})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreOnTheFake(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openStore(t, newFake(t).client(), "one") })
}

func TestStoreOnAzurite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openStore(t, azuriteContainer(t), "one") })
}

// TestCheck: a container that is there, with all permissions, passes, and nothing is left.
func TestCheck(t *testing.T) {
	f := newFake(t)
	if err := openStore(t, f.client(), "").Check(t.Context()); err != nil {
		t.Error(err)
	}
	if len(f.blobs) != 0 {
		t.Errorf("left are %v", f.blobs)
	}
}

func TestCheckOnAzurite(t *testing.T) {
	c := azuriteContainer(t)
	if err := openStore(t, c, "").Check(t.Context()); err != nil {
		t.Error(err)
	}
	if keys, err := list(t, newBucket(c), objectstore.Range{Prefix: "c"}); err != nil || len(keys) != 0 {
		t.Errorf("left are %q, %v", keys, err)
	}
}

// TestCheckFinds: what is wrong with a container is found at the start.
func TestCheckFinds(t *testing.T) {
	refused := func(is func(*http.Request) bool, status int, code string) func(*fake) {
		return func(f *fake) {
			f.meddle(func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
				if is(r) {
					refuse(w, status, code)
					return
				}
				next(w, r)
			})
		}
	}
	method := func(m string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.Method == m }
	}
	param := func(name, value string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.URL.Query().Get(name) == value }
	}
	for name, c := range map[string]struct {
		wrong func(*fake)
		text  string
	}{
		"no container":        {refused(method("GET"), 404, "ContainerNotFound"), "the container must exist"},
		"may not list":        {refused(param("comp", "list"), 403, "AuthorizationPermissionMismatch"), "Storage Blob Data Contributor"},
		"may not read":        {refused(method("HEAD"), 403, "AuthorizationPermissionMismatch"), "Storage Blob Data Contributor"},
		"may not write":       {refused(isPut, 403, "AuthorizationPermissionMismatch"), "Storage Blob Data Contributor"},
		"may not write parts": {refused(param("comp", "block"), 403, "AuthorizationPermissionMismatch"), "Storage Blob Data Contributor"},
		"may not delete":      {refused(method("DELETE"), 403, "AuthorizationPermissionMismatch"), "Storage Blob Data Contributor"},
		"expired":             {refused(method("GET"), 403, "AuthenticationFailed"), "expired"},
		"hierarchical":        {func(f *fake) { f.hierarchical = true }, "hierarchical namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			c.wrong(f)
			if err := openStore(t, f.client(), "").Check(t.Context()); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

// TestCheckFindsUnconditionalWrites: a service, or something before it, that drops the
// conditions of writes cannot be used.
func TestCheckFindsUnconditionalWrites(t *testing.T) {
	for _, name := range []string{"Put without If-None-Match", "Put without If-Match"} {
		f := newFake(t)
		err := openStore(t, f.clientOver(mutants[name].change), "").Check(t.Context())
		if !errors.Is(err, ErrUnconditional) || len(f.blobs) != 0 {
			t.Errorf("%s: %v, left are %v", name, err, f.blobs)
		}
	}
}

// TestTagsOfReplicas: of the answers that replicas bring at the same time, the one that was
// asked for last stays.
func TestTagsOfReplicas(t *testing.T) {
	for name, client := range map[string]func(*testing.T) *container.Client{
		"fake":    func(t *testing.T) *container.Client { return newFake(t).client() },
		"Azurite": azuriteContainer,
	} {
		t.Run(name, func(t *testing.T) {
			const replicas, answers = 4, 8
			c := client(t)
			start := time.Now()
			tag := func(i int) store.Tag {
				tag := store.Tag{Source: "https://registry.example/team/app", Asked: start.Add(time.Duration(i) * time.Second)}
				tag.Digest = digest.FromString(strconv.Itoa(i))
				return tag
			}
			var wait sync.WaitGroup
			for r := range replicas {
				s := openStore(t, c, "replica-"+strconv.Itoa(r))
				wait.Go(func() {
					for i := range answers {
						err := s.SetTag(t.Context(), "team/app", "v1.", tag(i*replicas+r))
						if err != nil && !errors.Is(err, store.ErrStale) {
							t.Error(err)
						}
					}
				})
			}
			wait.Wait()
			got, err := openStore(t, c, "").Tag(t.Context(), "team/app", "v1.")
			if want := tag(replicas*answers - 1); err != nil || got.Digest != want.Digest {
				t.Errorf("the tag has %v, %v, want %v", got, err, want)
			}
		})
	}
}

// TestWritersOfOneBlob: replicas that write one blob at once all succeed, and the blob is
// right.
func TestWritersOfOneBlob(t *testing.T) {
	for name, client := range map[string]func(*testing.T) *container.Client{
		"fake":    func(t *testing.T) *container.Client { return newFake(t).client() },
		"Azurite": azuriteContainer,
	} {
		for _, size := range []int{1000, objectstore.PartSize + 1000} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				c := client(t)
				data := []byte(strings.Repeat("0123456789", size/10))
				info := store.Info{Source: "https://registry.example/team/app"}
				info.Digest, info.Size = digest.FromBytes(data), int64(len(data))
				var wait sync.WaitGroup
				for r := range 4 {
					s := openStore(t, c, "")
					wait.Go(func() {
						if err := copyTo(t.Context(), s, fmt.Sprint("team/app", r), info, data); err != nil {
							t.Error(err)
						}
					})
				}
				wait.Wait()
				for r := range 4 {
					_, got, err := openStore(t, c, "").Open(t.Context(), fmt.Sprint("team/app", r), info.Digest)
					if err != nil {
						t.Fatal(err)
					}
					if read, err := io.ReadAll(got); err != nil || !bytes.Equal(read, data) {
						t.Errorf("%d bytes, %v", len(read), err)
					}
					got.Close()
				}
			})
		}
	}
}

func copyTo(ctx context.Context, s store.Store, repo string, info store.Info, data []byte) error {
	w, err := s.Create(ctx, repo, info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

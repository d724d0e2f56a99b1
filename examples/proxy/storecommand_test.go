package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/store"
)

// runStoreCommand returns what a command prints, and its exit code.
func runStoreCommand(t *testing.T, args ...string) (out, errors string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), nil, append([]string{"store"}, args...), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

func TestStoreCommands(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	layer := bytes.Repeat([]byte("layer"), 10000)
	put := func(repo, mediaType string, data []byte) ocispec.Descriptor {
		info := store.Info{Source: "https://a.example/x", Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}}
		w, err := d.Create(t.Context(), repo, info)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return info.Descriptor
	}
	blob := put("local/app", "", layer)
	manifest := put("local/app", ocispec.MediaTypeImageManifest, []byte("{}"))
	if err := d.SetTag(t.Context(), "local/app", "v1", store.Tag{Descriptor: manifest, Source: "https://a.example/x"}); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := runStoreCommand(t, "ls", dir); code != exitFault || !strings.Contains(stderr, "stop the proxy first") {
		t.Errorf("while it is open: %d, %s", code, stderr)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	expect := func(code int, words []string, args ...string) {
		t.Helper()
		stdout, stderr, got := runStoreCommand(t, args...)
		if got != code {
			t.Errorf("%q: exit code %d, %s%s", args, got, stdout, stderr)
		}
		for _, word := range words {
			if !strings.Contains(stdout+stderr, word) {
				t.Errorf("%q: %q is not in\n%s%s", args, word, stdout, stderr)
			}
		}
	}
	expect(exitOK, []string{"local/app   1     1          50002", "50002 bytes of content"}, "ls", dir)
	expect(exitOK, []string{"v1", manifest.Digest.String(), blob.Digest.String() + "  50000"}, "ls", dir, "local/app")
	expect(exitOK, []string{"checked, faults: 0"}, "check", dir)
	hex := blob.Digest.Encoded()
	if err := os.Truncate(filepath.Join(dir, "blobs", "sha256", hex[:2], hex), 10); err != nil {
		t.Fatal(err)
	}
	expect(exitFault, []string{"its file has 10 bytes instead of 50000", "-repair"}, "check", dir)
	expect(exitOK, []string{"(repaired)", "checked, faults: 1"}, "check", "-repair", dir)
	expect(exitOK, []string{"checked, faults: 0"}, "check", dir)
	expect(exitFault, []string{"it has no index.db"}, "ls", t.TempDir())
	expect(exitUsage, []string{"usage: proxy store"}, "ls")
	expect(exitUsage, []string{"usage: proxy store"})
	expect(exitUsage, []string{"usage: proxy store"}, "rm", dir)
	expect(exitUsage, []string{"usage: proxy store"}, "check", dir, "more")
}

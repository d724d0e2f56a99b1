package upstreamtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

func Example() {
	up, err := upstreamtest.Start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer up.Close()
	img := up.AddImage("team/app", "v1", upstreamtest.Layers(2, 1<<10))

	repo, err := up.Client().Open(upstream.Source{Host: up.Host(), Repository: "team/app"}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	desc, err := repo.Resolve(context.Background(), "v1")
	fmt.Println(desc.Digest == img.Digest, err, up.Count("HEAD", "manifest", "v1"))
	// Output: true <nil> 1
}

func get(t *testing.T, url string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func TestContentIsWhatItSays(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	img := up.AddMultiPlatform("a", "v1", upstreamtest.Layers(2, 1000), "amd64", "arm64")
	sum := up.AddAttestation("a", img.Children[0])
	index := up.AddIndex("a", "v2", append(img.Children, sum)...)
	if img.Children[0].Layers[0].Digest != img.Children[1].Layers[0].Digest || img.Children[0].Layers[1].Digest == img.Children[1].Layers[1].Digest {
		t.Error("platforms share the first layer and no other")
	}
	for _, i := range []upstreamtest.Image{img, index, img.Children[0], sum} {
		_, body, err := get(t, up.URL()+"/v2/a/manifests/"+i.Digest.String())
		if err != nil || digest.FromBytes(body) != i.Digest || digest.FromBytes(i.Manifest) != i.Digest {
			t.Errorf("%s: %v", i.Digest, err)
		}
		for _, d := range append([]ocispec.Descriptor{i.Config}, i.Layers...) {
			if d.Digest != "" && digest.FromBytes(up.Blob("a", d.Digest)) != d.Digest {
				t.Errorf("blob %s", d.Digest)
			}
		}
	}
	up.Untag("a", "v1")
	if resp, _, _ := get(t, up.URL()+"/v2/a/manifests/v1"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an untagged tag: %d", resp.StatusCode)
	}
}

func TestFaultsAndCounters(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	data := upstreamtest.Bytes(7, 300<<10)
	d := up.AddBlob("a", data)
	url := up.URL() + "/v2/a/blobs/" + d.String()
	up.Fail(upstreamtest.Fault{Kind: "blob", Cut: 1000, Times: 1})
	if _, body, err := get(t, url); err == nil || len(body) != 1000 || up.BlobBytes(d) != 1000 {
		t.Errorf("a cut: %d bytes, %v, %d counted", len(body), err, up.BlobBytes(d))
	}
	if _, body, err := get(t, url, "Range", "bytes=5-9"); err != nil || string(body) != string(data[5:10]) {
		t.Errorf("a range: %d bytes, %v", len(body), err)
	}
	if n := up.Count("GET", "blob", d.String()); n != 2 {
		t.Errorf("%d requests counted", n)
	}
	up.Reset()
	if up.Count("", "", "") != 0 || up.BlobBytes("") != 0 {
		t.Error("Reset forgets nothing")
	}
	up.Pace(3 << 20)
	begun := time.Now()
	if _, _, err := get(t, url); err != nil || time.Since(begun) < 90*time.Millisecond {
		t.Errorf("300 KiB at 3 MiB/s came in %v, %v", time.Since(begun), err)
	}
}

func TestAStorageRefusesCredentialsAndSaysSo(t *testing.T) {
	up, err := upstreamtest.Start() // without a testing.TB the complaint is kept
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	d := up.AddBlob("a", []byte("content"))
	if _, err := up.RedirectBlobs(); err != nil {
		t.Fatal(err)
	}
	if _, body, err := get(t, up.URL()+"/v2/a/blobs/"+d.String()); err != nil || string(body) != "content" {
		t.Errorf("%q, %v", body, err)
	}
	// The standard client keeps Cookie on a redirect to another port.
	if resp, _, err := get(t, up.URL()+"/v2/a/blobs/"+d.String(), "Cookie", "a=b"); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("%v, %v", resp, err)
	}
	if len(up.Complaints()) != 1 {
		t.Errorf("complaints %q", up.Complaints())
	}
}

func TestStopAndRestartKeepTheAddress(t *testing.T) {
	up := upstreamtest.NewRegistry(t)
	up.AddImage("a", "v1", nil)
	up.Fail(upstreamtest.Fault{Hang: true, Times: 1})
	hung := make(chan error, 1)
	go func() { _, _, err := get(t, up.URL()+"/v2/"); hung <- err }()
	for up.Open() == 0 {
		time.Sleep(time.Millisecond) // polls a condition that the request makes true
	}
	host := up.Host()
	up.Stop()
	if <-hung == nil {
		t.Error("a request survived Stop")
	}
	if _, _, err := get(t, up.URL()+"/v2/"); err == nil {
		t.Error("it answers though it is stopped")
	}
	if err := up.Restart(); err != nil || up.Host() != host {
		t.Fatalf("%v, %s, was %s", err, up.Host(), host)
	}
	if resp, _, err := get(t, up.URL()+"/v2/a/manifests/v1"); err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v", resp, err)
	}
}

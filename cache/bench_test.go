//go:build linux

package cache_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// Every benchmark runs beside a bare net/http server that does the same with
// nothing around it. The figures depend on the machine, their ratio less so.
//
//	go test -run '^$' -bench . -benchtime 2s ./cache
//	go test -run '^$' -bench Cold -benchtime 1x ./cache

const large = 64 * mib

// BenchmarkWarmBlob sends a blob of 64 MiB from a Dir. cpu-ms/GiB is that of the
// process without that of the client's thread.
func BenchmarkWarmBlob(b *testing.B) {
	up := upstreamtest.NewRegistry(b)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(1, large))
	layer := img.Layers[0].Digest
	r := newRig(b, up, time.Hour)
	r.pull(img, "v1")

	file := filepath.Join(b.TempDir(), "blob")
	if err := os.WriteFile(file, up.Blob("team/api", layer), 0o600); err != nil {
		b.Fatal(err)
	}
	plain := bare(b, func(w http.ResponseWriter, req *http.Request) {
		f, err := os.Open(file)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, req, "", time.Time{}, f)
	})
	for _, c := range []struct{ name, addr string }{{"cache", r.addr}, {"bare", plain}} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			conn, req := dial(b, c.addr), rawRequest(blobPath(layer))
			defer conn.Close()
			conn.blocking()
			b.SetBytes(large)
			all, mine := cpu(wholeProcess), cpu(thisThread)
			b.ResetTimer()
			for range b.N {
				if err := conn.discard(req, large); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			used := cpu(wholeProcess) - all - (cpu(thisThread) - mine)
			b.ReportMetric(perGiB(used, int64(b.N)*large), "cpu-ms/GiB")
		})
	}
	if n := up.Count("GET", "blob", layer.String()); n != 1 {
		b.Errorf("%d upstream GETs, want 1", n)
	}
}

// BenchmarkWarmTinyBlob asks for a blob that is kept in memory.
func BenchmarkWarmTinyBlob(b *testing.B) {
	up := upstreamtest.NewRegistry(b)
	layers := upstreamtest.Layers(1, 1024)
	img := up.AddImage("team/api", "v1", layers)
	r := newRig(b, up, time.Hour)
	r.pull(img, "v1")
	d := img.Layers[0].Digest
	for name, addr := range map[string]string{"cache": r.addr, "bare": bare(b, plain("application/octet-stream", d, layers[0], func() {}))} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			overHTTP(b, nil, addr, blobPath(d), layers[0][1024-32:])
		})
	}
}

// plain answers with some bytes, whose headers are made.
func plain(mediaType string, d digest.Digest, body []byte, first func()) http.HandlerFunc {
	ctype, dgst, length := []string{mediaType}, []string{d.String()}, []string{strconv.Itoa(len(body))}
	return func(w http.ResponseWriter, _ *http.Request) {
		first()
		h := w.Header()
		h["Content-Type"], h["Docker-Content-Digest"], h["Content-Length"] = ctype, dgst, length
		_, _ = w.Write(body)
	}
}

// manifestBench asks for a warm manifest in one way, of the cache and of a bare
// handler.
func manifestBench(b *testing.B, fresh time.Duration, byDigest, question bool, run func(b *testing.B, h http.Handler, addr, path string, tail []byte)) {
	up := upstreamtest.NewRegistry(b)
	img := up.AddImage("team/api", "v1", upstreamtest.Layers(8, 1024))
	r := newRig(b, up, fresh)
	r.pull(img, "v1")
	path := manifestPath("v1")
	if byDigest {
		path = manifestPath(img.Digest.String())
	}
	first := func() {}
	if question {
		web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		b.Cleanup(web.CloseIdleConnections)
		first = func() {
			resp, err := web.Head("http://" + up.Host() + "/v2/team/api/manifests/v1")
			if err != nil {
				panic(err)
			}
			resp.Body.Close()
		}
	}
	h := plain(img.MediaType, img.Digest, img.Manifest, first)
	tail := img.Manifest[len(img.Manifest)-32:]
	b.Run("cache", func(b *testing.B) {
		up.Reset()
		run(b, r.cache, r.addr, path, tail)
		b.ReportMetric(float64(up.Count("HEAD", "manifest", ""))/float64(b.N), "HEAD/op")
	})
	b.Run("bare", func(b *testing.B) {
		up.Reset()
		run(b, h, bare(b, h), path, tail)
	})
	if n := up.Count("GET", "", ""); n != 0 {
		b.Errorf("%d upstream GETs, want none", n)
	}
}

// overHTTP uses 64 connections.
func overHTTP(b *testing.B, _ http.Handler, addr, path string, tail []byte) {
	const conns = 64
	procs := runtime.GOMAXPROCS(0)
	b.SetParallelism((conns + procs - 1) / procs)
	req := rawRequest(path)
	b.ResetTimer()
	used := cpu(wholeProcess)
	b.RunParallel(func(pb *testing.PB) {
		c := dial(b, addr)
		defer c.Close()
		n, err := c.measure(req)
		answer := make([]byte, n)
		for err == nil && pb.Next() {
			err = c.exchange(req, answer, tail)
		}
		if err != nil {
			b.Error(err)
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpu(wholeProcess)-used).Microseconds())/float64(b.N), "cpu-us/op")
}

// nobody is a ResponseWriter that costs nothing.
type nobody struct {
	header http.Header
	status int
	bytes  int
}

func (w *nobody) Header() http.Header { return w.header }
func (w *nobody) WriteHeader(s int)   { w.status = s }
func (w *nobody) Write(p []byte) (int, error) {
	w.bytes += len(p)
	return len(p), nil
}

// inProcess calls the handler itself.
func inProcess(b *testing.B, h http.Handler, _, path string, _ []byte) {
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		req, err := http.NewRequest("GET", path, nil)
		if err != nil {
			b.Error(err)
			return
		}
		w := &nobody{header: http.Header{}}
		for pb.Next() {
			clear(w.header)
			w.bytes = 0
			h.ServeHTTP(w, req)
			if w.bytes == 0 || w.status > 200 {
				b.Errorf("status %d, %d bytes", w.status, w.bytes)
				return
			}
		}
	})
}

func BenchmarkWarmManifestByDigest(b *testing.B) {
	manifestBench(b, time.Hour, true, false, overHTTP)
}

func BenchmarkWarmManifestByTag(b *testing.B) {
	manifestBench(b, time.Hour, false, false, overHTTP)
}

// The bare handler sends a HEAD for each request; the cache asks once for all
// who wait.
func BenchmarkWarmManifestWithHead(b *testing.B) {
	manifestBench(b, 0, false, true, overHTTP)
}

func BenchmarkManifestByDigestInProcess(b *testing.B) {
	manifestBench(b, time.Hour, true, false, inProcess)
}

func BenchmarkManifestByTagInProcess(b *testing.B) {
	manifestBench(b, time.Hour, false, false, inProcess)
}

func BenchmarkManifestWithHeadInProcess(b *testing.B) {
	manifestBench(b, 0, false, true, inProcess)
}

// fanOut lets n clients read a blob at once.
func fanOut(b *testing.B, addr string, req []byte, n int) {
	conns := make([]*client, n)
	for i := range conns {
		conns[i] = dial(b, addr)
		defer conns[i].Close()
	}
	var wg sync.WaitGroup
	grown := growth()
	used := cpu(wholeProcess)
	b.StartTimer()
	for _, c := range conns {
		wg.Go(func() {
			if err := c.discard(req, large); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(perGiB(cpu(wholeProcess)-used, int64(n)*large), "all-cpu-ms/GiB")
	heap, rss := grown()
	b.ReportMetric(heap, "heap-MiB")
	b.ReportMetric(rss, "rss-MiB")
}

// BenchmarkColdFanOut reads a blob that is not here yet: one upstream GET,
// however many want it. The bare server has the file already; all-cpu is that of
// the process, upstream and clients included. The memory is of the last round.
func BenchmarkColdFanOut(b *testing.B) {
	up := upstreamtest.NewRegistry(b)
	layer := up.AddBlob("team/api", upstreamtest.Bytes(1, large))
	file := filepath.Join(b.TempDir(), "blob")
	if err := os.WriteFile(file, up.Blob("team/api", layer), 0o600); err != nil {
		b.Fatal(err)
	}
	req := rawRequest(blobPath(layer))
	for _, n := range []int{1, 16, 200} {
		b.Run(fmt.Sprintf("%d/cache", n), func(b *testing.B) {
			b.SetBytes(int64(n) * large)
			gets := 0
			b.StopTimer()
			for range b.N {
				up.Reset()
				r := newRig(b, up, time.Hour)
				fanOut(b, r.addr, req, n)
				got := up.Count("GET", "blob", "")
				if segments := int(r.cache.Stats().Segments); got != 1 && got > 1+2*segments { // the first may be asked for again behind each
					b.Errorf("%d clients cost %d upstream GETs, of which %d are for segments", n, got, segments)
				}
				gets += got
				r.close()
			}
			b.ReportMetric(float64(gets)/float64(b.N), "GET/op")
		})
		b.Run(fmt.Sprintf("%d/bare", n), func(b *testing.B) {
			b.SetBytes(int64(n) * large)
			b.StopTimer()
			addr := bare(b, func(w http.ResponseWriter, req *http.Request) { http.ServeFile(w, req, file) })
			for range b.N {
				fanOut(b, addr, req, n)
			}
		})
	}
}

// BenchmarkColdTinyImages pulls 200 images of two small blobs each that are not
// here yet, with 8 clients. Proxy is a bare server that fetches, writes a plain
// file and answers, as caches do that sync nothing; files only writes them.
func BenchmarkColdTinyImages(b *testing.B) {
	const count, clients = 200, 8
	up := upstreamtest.NewRegistry(b)
	imgs := make([]upstreamtest.Image, count)
	for i := range imgs {
		imgs[i] = up.AddImage("team/api", fmt.Sprint("t", i), [][]byte{upstreamtest.Bytes(uint64(i+1), 4096)})
	}
	pullAll := func(b *testing.B, addr string) {
		var wg sync.WaitGroup
		var next atomic.Int64
		for range clients {
			c := dial(b, addr)
			wg.Go(func() {
				defer c.Close()
				for i := next.Add(1) - 1; i < count; i = next.Add(1) - 1 {
					img := imgs[i]
					get := func(path string, want digest.Digest) {
						if got := digest.FromBytes(c.get(path)); got != want {
							b.Errorf("%s: got %s", path, got)
						}
					}
					get(manifestPath(fmt.Sprint("t", i)), img.Digest)
					get(blobPath(img.Config.Digest), img.Config.Digest)
					get(blobPath(img.Layers[0].Digest), img.Layers[0].Digest)
				}
			})
		}
		wg.Wait()
	}
	rate := func(b *testing.B) { b.ReportMetric(count*float64(b.N)/b.Elapsed().Seconds(), "images/s") }
	b.Run("cache", func(b *testing.B) {
		var complete time.Duration
		b.StopTimer()
		for range b.N {
			up.Reset()
			r := newRig(b, up, time.Hour)
			begun := time.Now()
			b.StartTimer()
			pullAll(b, r.addr)
			b.StopTimer()
			r.copied(count)
			complete += time.Since(begun)
			r.close()
		}
		rate(b)
		b.ReportMetric(count*float64(b.N)/complete.Seconds(), "complete/s")
	})
	b.Run("proxy", func(b *testing.B) {
		web := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		b.Cleanup(web.CloseIdleConnections)
		b.StopTimer()
		for range b.N {
			dir, n := b.TempDir(), atomic.Int64{}
			addr := bare(b, func(w http.ResponseWriter, req *http.Request) {
				resp, err := web.Get("http://" + up.Host() + "/v2/team/" + req.URL.Path[len("/v2/app/"):])
				if err != nil {
					panic(err)
				}
				defer resp.Body.Close()
				f, err := os.Create(filepath.Join(dir, fmt.Sprint(n.Add(1))))
				if err != nil {
					panic(err)
				}
				defer f.Close()
				w.Header()["Content-Length"] = resp.Header["Content-Length"]
				_, _ = io.Copy(io.MultiWriter(w, f), resp.Body)
			})
			b.StartTimer()
			pullAll(b, addr)
			b.StopTimer()
		}
		rate(b)
	})
	b.Run("files", func(b *testing.B) {
		b.StopTimer()
		for range b.N {
			dir := b.TempDir()
			b.StartTimer()
			for i, img := range imgs {
				for j, body := range [][]byte{img.Manifest, up.Blob("team/api", img.Config.Digest), up.Blob("team/api", img.Layers[0].Digest)} {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, "-", j)), body, 0o600); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.StopTimer()
		}
		rate(b)
	})
}

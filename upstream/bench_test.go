package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/upstream"
)

// Each benchmark runs beside a bare net/http transport that asks the same and does
// nothing else. The figures depend on the machine, their ratio less so.
//
//	go test -run '^$' -bench . -benchmem ./upstream

// scripted is a registry on loopback that responds to each path with bytes that are
// written before, so that what is measured is the client's side alone. It asks for a
// token if that is not empty.
type scripted struct {
	addr      string
	responses map[string][]byte // by method and path
	token     string
}

// newScripted returns a registry with the manifest v1 and the blob small of the
// repository team/api. Its responses have the headers that those of big registries have.
func newScripted(tb testing.TB, token string) *scripted {
	tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &scripted{addr: l.Addr().String(), token: token, responses: map[string][]byte{}}
	const usual = "HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nDocker-Distribution-Api-Version: registry/2.0\r\nX-Content-Type-Options: nosniff\r\n"
	s.responses["HEAD /v2/team/api/manifests/v1"] = fmt.Appendf(nil, usual+
		"Content-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 1234\r\nDocker-Content-Digest: %[1]s\r\nEtag: \"%[1]s\"\r\n\r\n", digest.FromString("v1"))
	s.responses["GET /v2/team/api/blobs/"+smallDigest.String()] = fmt.Appendf(nil, usual+
		"Content-Type: application/octet-stream\r\nContent-Length: %[1]d\r\nDocker-Content-Digest: %[2]s\r\nEtag: \"%[2]s\"\r\n\r\n%[3]s", len(small), smallDigest, small)
	s.responses["GET /token"] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n{\"token\":%q}", len(token)+12, token)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	tb.Cleanup(func() { l.Close() })
	return s
}

// small is a blob of 2 KiB.
var (
	small       = bytes.Repeat([]byte("0123456789abcde\n"), 128)
	smallDigest = digest.FromBytes(small)
)

// serve responds on one connection until it is closed.
func (s *scripted) serve(c net.Conn) {
	defer c.Close()
	unauthorized := []byte("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWww-Authenticate: Bearer realm=\"http://registry.example/token\",service=\"bench\",scope=\"repository:team/api:pull\"\r\n\r\n")
	shows := []byte("Bearer " + s.token + "\r\n")
	r := bufio.NewReaderSize(c, 8<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		method, rest, _ := bytes.Cut(line, []byte(" "))
		path, _, _ := bytes.Cut(rest, []byte(" "))
		path, _, _ = bytes.Cut(path, []byte("?"))
		answer := s.responses[string(line[:len(method)+1+len(path)])]
		allowed := s.token == "" || bytes.Equal(path, []byte("/token"))
		for len(line) > 2 {
			if line, err = r.ReadSlice('\n'); err != nil {
				return
			}
			allowed = allowed || bytes.HasSuffix(line, shows)
		}
		if !allowed {
			answer = unauthorized
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// open returns the repository of a client of s, as a rule with the credential of who. Its
// host is a name, as those of registries are.
func (s *scripted) open(tb testing.TB, who auth.Authenticator) upstream.Repository {
	tb.Helper()
	const host = "registry.example"
	client := &upstream.Client{Dial: dialer(s.addr), Hosts: map[string]upstream.Host{host: {PlainHTTP: true}}}
	tb.Cleanup(client.CloseIdleConnections)
	repo, err := client.Open(upstream.Source{Rule: "rule", Host: host, Repository: "team/api"}, who)
	if err != nil {
		tb.Fatal(err)
	}
	return repo
}

// head asks for a tag once, as package cache does: within a time, and with CDN-Loop.
func head(tb testing.TB, repo upstream.Repository) {
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	ctx = upstream.WithLoop(upstream.WithAnswerTimeout(ctx, 10*time.Second), "bench")
	desc, err := repo.Resolve(ctx, "v1")
	if err != nil || desc.Size != 1234 {
		tb.Fatal(desc, err)
	}
}

// readSmall reads a small blob once, as a download does: with no end of its own.
func readSmall(tb testing.TB, repo upstream.Repository, buf []byte) {
	ctx := upstream.WithLoop(upstream.WithAnswerTimeout(tb.Context(), 10*time.Second), "bench")
	body, err := repo.Blob(ctx, smallDigest, 0, -1)
	if err != nil {
		tb.Fatal(err)
	}
	if n, err := io.ReadFull(body, buf); err != nil || !bytes.Equal(buf, small) {
		tb.Fatal(n, err)
	}
	body.Close()
}

// bareRequest asks with nothing but net/http, under one time limit.
func bareRequest(tb testing.TB, rt http.RoundTripper, method, url string, buf []byte) {
	ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Accept", strings.Repeat("application/json, ", 8))
	resp, err := rt.RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, buf); err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
}

// BenchmarkHead asks whether a tag has moved: of a registry that asks for nothing, and
// of one for which there is a token.
func BenchmarkHead(b *testing.B) {
	s, t := newScripted(b, ""), newScripted(b, "token-0123456789abcdef")
	robot := &auth.CredentialSet{LoginServer: "registry.example", Username: auth.Value{Text: auth.NewSensitive("robot")}, Password: auth.Value{Text: auth.NewSensitive("hunter22")}}
	for _, c := range []struct {
		name string
		repo upstream.Repository
	}{
		{"open", s.open(b, nil)}, {"token", t.open(b, nil)},
		{"password", t.open(b, robot)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				head(b, c.repo)
			}
		})
	}
	b.Run("bare", func(b *testing.B) {
		tr := &http.Transport{DisableCompression: true}
		defer tr.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			bareRequest(b, tr, "HEAD", "http://"+s.addr+"/v2/team/api/manifests/v1", nil)
		}
	})
}

// BenchmarkSmallBlob reads a blob of 2 KiB.
func BenchmarkSmallBlob(b *testing.B) {
	s, t := newScripted(b, ""), newScripted(b, "token-0123456789abcdef")
	buf := make([]byte, len(small))
	for _, c := range []struct {
		name string
		repo upstream.Repository
	}{{"open", s.open(b, nil)}, {"token", t.open(b, nil)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				readSmall(b, c.repo, buf)
			}
		})
	}
	b.Run("bare", func(b *testing.B) {
		tr := &http.Transport{DisableCompression: true}
		defer tr.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			bareRequest(b, tr, "GET", "http://"+s.addr+"/v2/team/api/blobs/"+smallDigest.String(), buf)
		}
	})
}

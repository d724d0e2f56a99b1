package storetest

import (
	"context"
	_ "crypto/sha512" // for digest.SHA512
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/store"
)

type ctxType = context.Context

func contentChecks() []Check {
	return []Check{
		{"content/round trip", "Committed content reads back byte for byte, with its digest, size and source; the media type of content that is no manifest is application/octet-stream.", law(roundTrip)},
		{"content/unknown size", "Content of unknown size has a size once it is committed.", law(unknownSize)},
		{"content/commit is the door", "Content is not visible before Commit.", law(visibleAfterCommit)},
		{"content/close gives up", "A writer that is closed without Commit leaves nothing; Close after Commit removes nothing.", law(closeGivesUp)},
		{"content/size", "Commit returns ErrSize if the bytes are not as many as announced, and links nothing.", law(wrongSize)},
		{"content/isolation", "Content of one repository cannot be seen in another, above, below or beside it.", law(isolation)},
		{"content/source", "A link is replaced by a link with another source; other repositories keep their links.", law(sourceReplaced)},
		{"content/kinds", "Manifests keep their media type, artifact type, annotations and subject, also those of an unknown type.", law(kinds)},
		{"content/once a manifest", "Content that is linked as a manifest stays one when it is committed as a blob; a blob becomes a manifest when it is committed as one.", law(onceAManifest)},
		{"content/positions", "Every reader has a position of its own, and can seek.", law(positions)},
		{"content/writers at once", "Concurrent writers of one content all succeed.", law(writersAtOnce)},
		{"content/names", "Invalid digests, repository names and tags are refused, whatever path they would lead to.", law(badNames)},
	}
}

func roundTrip(k *kit) {
	for i, n := range []int{0, 1, 2000, 65 << 10, 1 << 20} {
		p := blob(uint64(i), n, originA+"/team/app")
		k.put("a/b", p)
		k.present("a/b", p)
	}
	p := blob(9, 100, "http://127.0.0.1:5000/x")
	p.Digest = digest.SHA512.FromBytes(p.data)
	k.put("a/b", p)
	k.present("a/b", p)
	p = blob(10, 100, originA+"/team/app")
	k.put("a/b", p)
	k.put("a/b", p) // there already
	k.present("a/b", p)
}

func unknownSize(k *kit) {
	for i, n := range []int{0, 2000, 300 << 10} {
		p := blob(uint64(i), n, originA+"/x")
		p.Size = -1
		k.put("a", p)
		k.present("a", p)
	}
}

func visibleAfterCommit(k *kit) {
	for i, n := range []int{2000, 300 << 10} {
		p := blob(uint64(i), n, originA+"/x")
		w := k.write("a", p)
		k.absent("a", p, "before Commit")
		var calls int
		is(k.s.Adopt(k.ctx, "b", p.Info, allow(nil, &calls)), store.ErrNotFound, "Adopt before Commit")
		ok(w.Commit(k.ctx), "Commit")
		ok(w.Close(), "Close")
		k.present("a", p)
	}
}

func closeGivesUp(k *kit) {
	for i, n := range []int{2000, 300 << 10} {
		p := blob(uint64(i), n, originA+"/x")
		w := k.write("a", p)
		ok(w.Close(), "Close")
		k.absent("a", p, "after Close")
		if w.Commit(k.ctx) == nil {
			failf("Commit after Close succeeded")
		}
		k.absent("a", p, "after Close and Commit")
		k.put("a", p)
		k.present("a", p)
	}
}

func wrongSize(k *kit) {
	for i, n := range []int{2000, 300 << 10} {
		for _, delta := range []int64{-1, 1} {
			p := blob(uint64(i), n, originA+"/x")
			p.Size += delta
			w, err := k.s.Create(k.ctx, "a", p.Info)
			ok(err, "Create")
			if _, err := w.Write(p.data); err != nil {
				is(err, store.ErrSize, "Write of more than announced")
			}
			is(w.Commit(k.ctx), store.ErrSize, "Commit of %d bytes, announced were %d", n, p.Size)
			k.absent("a", p, "after ErrSize")
			ok(w.Close(), "Close")
			k.absent("a", p, "after ErrSize and Close")
		}
	}
}

func isolation(k *kit) {
	for _, p := range []piece{blob(1, 2000, originA+"/x"), manifest(2, originA+"/x")} {
		k.put("team/app", p)
		for _, other := range []string{"team", "team/app/sub", "team/app-2", "app", "other/app", "team/ap"} {
			k.absent(other, p, "of another repository")
		}
		k.present("team/app", p)
	}
}

func sourceReplaced(k *kit) {
	for _, p := range []piece{blob(1, 2000, originA+"/x"), manifest(2, originA+"/x")} {
		k.put("a", p)
		k.put("b", p)
		q := p.from(originB + "/y")
		k.put("a", q)
		k.present("a", q)
		k.present("b", p)
	}
}

func kinds(k *kit) {
	types := []string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
		"application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.oci.artifact.manifest.v1+json",
		"application/vnd.cncf.oras.artifact.manifest.v1+json",
		"application/vnd.example.unknown+json",
	}
	for i, mediaType := range types {
		p := manifest(uint64(i), originA+"/x").as(mediaType)
		p.Manifest = !store.IsManifest(mediaType)
		p.Subject = digest.FromString("subject")
		k.put("a", p)
		k.present("a", p)
		k.put("a", p.as(layerType).blob())
		k.present("a", p)
	}
	for i, mediaType := range []string{"", "text/html", ocispec.MediaTypeImageConfig} {
		p := blob(uint64(100+i), 500, originA+"/x").as(mediaType)
		k.put("a", p)
		k.present("a", p)
	}
}

func onceAManifest(k *kit) {
	p := manifest(1, originA+"/x")
	k.put("a", p)
	k.put("a", p.as(layerType))
	k.present("a", p)
	q := manifest(2, originA+"/x")
	k.put("a", q.as(layerType))
	k.present("a", q.as(layerType))
	k.put("a", q)
	k.present("a", q)
}

func positions(k *kit) {
	p := blob(1, 300<<10, originA+"/x")
	k.put("a", p)
	_, r1, err := k.s.Open(k.ctx, "a", p.Digest)
	ok(err, "Open")
	defer r1.Close()
	_, err = io.CopyN(io.Discard, r1, 1000)
	ok(err, "read")
	_, r2, err := k.s.Open(k.ctx, "a", p.Digest)
	ok(err, "Open")
	readsAs(r2, p.data)
	offset, err := r2.Seek(-10, io.SeekEnd)
	ok(err, "Seek")
	if offset != int64(len(p.data)-10) {
		failf("Seek to 10 before the end of %d returned %d", len(p.data), offset)
	}
	readsAs(r2, p.data[offset:])
	ok(r2.Close(), "Close")
	readsAs(r1, p.data[1000:])
	offset, err = r1.Seek(5, io.SeekStart)
	ok(err, "Seek")
	readsAs(r1, p.data[offset:])
}

func writersAtOnce(k *kit) {
	for i, p := range []piece{blob(1, 2000, originA+"/x"), blob(2, 70<<10, originA+"/x"), manifest(3, originA+"/x")} {
		k.together(16, func(n int) {
			repo := []string{"a", "b", "a/b", "c"}[n%4]
			k.put(repo, p)
			k.present(repo, p)
		})
		k.absent("d", p, "in a repository that got nothing")
		_ = i
	}
}

func badNames(k *kit) {
	p := blob(1, 100, originA+"/x")
	k.put("a", p)
	refused := func(repo string, p piece) {
		if _, err := k.s.Stat(k.ctx, repo, p.Digest); err == nil {
			failf("Stat of %q in %q succeeded", p.Digest, repo)
		}
		if w, err := k.s.Create(k.ctx, repo, p.Info); err == nil {
			w.Close()
			failf("Create of %q in %q succeeded", p.Digest, repo)
		}
		if k.s.SetTag(k.ctx, repo, "v1", store.Tag{Descriptor: p.Descriptor}) == nil {
			failf("SetTag to %q in %q succeeded", p.Digest, repo)
		}
	}
	for _, repo := range []string{"", "A", "../a", "a/../a", "a//b", "/a", "a/", "_blobs", "a/_blobs", "a\x00", "a b", "."} {
		refused(repo, p)
	}
	for _, d := range []digest.Digest{"", "sha256:", "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e", p.Digest[:70], p.Digest + "0"} {
		q := p
		q.Digest = d
		refused("a", q)
	}
	for _, tag := range []string{"", ".", "..", "a/b", "-a", "a b", "../v1"} {
		if k.s.SetTag(k.ctx, "a", tag, store.Tag{Descriptor: p.Descriptor}) == nil {
			failf("SetTag of %q succeeded", tag)
		}
	}
}

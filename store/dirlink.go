package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullthrough/pullthrough/internal/durable"
)

// The folders of a repository. No part of a repository's name begins with '_'.
const (
	blobLinks     = "_blobs"
	manifestLinks = "_manifests"
	tagLinks      = "_tags"
	referrerLinks = "_referrers"
)

// A blob's link is a symbolic link whose target is the source: one system call
// makes it, it cannot be torn, and one reads it. A manifest has a record.
type manifestRecord struct {
	MediaType    string            `json:"mediaType"`
	Manifest     bool              `json:"manifest,omitempty"`
	Size         int64             `json:"size"`
	Source       string            `json:"source"`
	Subject      digest.Digest     `json:"subject,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// content is where the bytes and links of one digest are.
type content struct {
	digest   digest.Digest
	alg, hex string
}

func contentOf(d digest.Digest) (content, error) {
	alg, hex, err := checkDigest(d)
	return content{d, alg, hex}, err
}

func (d *Dir) blobFolder(c content) string { return d.path("blobs", c.alg, c.hex[:2]) }
func (d *Dir) blobPath(c content) string   { return d.path("blobs", c.alg, c.hex[:2], c.hex) }

// linkPath is repos/NAME/_blobs/sha256-HEX and the like.
func (d *Dir) linkPath(repo, kind string, c content) string {
	n := len(d.root) + len("/repos/") + len(repo) + 1 + len(kind) + 1 + len(c.alg) + 1 + len(c.hex)
	b := append(make([]byte, 0, n), d.root...)
	b = append(append(b, "/repos/"...), repo...)
	b = append(append(b, '/'), kind...)
	b = append(append(b, '/'), c.alg...)
	return string(append(append(b, '-'), c.hex...))
}

// originPath is a second name of the bytes. Its existence says that they came from an
// origin, and it costs no file of its own.
func (d *Dir) originPath(c content, origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return d.blobPath(c) + "@" + hex.EncodeToString(sum[:16])
}

// targetOf returns the target of a link for a source, since a symbolic link cannot be
// empty.
func targetOf(source string) string {
	if source == "" {
		return "."
	}
	return source
}

func readTarget(path string) (string, error) {
	var buf [maxSource + 1]byte
	n, err := durable.Readlink(path, buf[:])
	if err != nil || n == 1 && buf[0] == '.' {
		return "", err
	}
	return string(buf[:n]), nil
}

// find returns what the links of repo say about content, without a look at the bytes.
// The size of a blob is -1.
func (d *Dir) find(repo string, c content) (Info, error) {
	source, err := readTarget(d.linkPath(repo, blobLinks, c))
	if err == nil {
		info := Info{Source: source}
		info.MediaType, info.Digest, info.Size = blobMediaType, c.digest, -1
		return info, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("store: %w", err)
	}
	return d.findManifest(repo, c)
}

func (d *Dir) findManifest(repo string, c content) (Info, error) {
	data, err := durable.ReadFile(d.linkPath(repo, manifestLinks, c))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, ErrNotFound
	}
	if err != nil {
		return Info{}, fmt.Errorf("store: %w", err)
	}
	var r manifestRecord
	if json.Unmarshal(data, &r) != nil {
		return Info{}, ErrNotFound // torn
	}
	info := Info{Source: r.Source, Subject: r.Subject, Manifest: r.Manifest}
	info.Descriptor = ocispec.Descriptor{
		MediaType: r.MediaType, Digest: c.digest, Size: r.Size,
		ArtifactType: r.ArtifactType, Annotations: r.Annotations,
	}
	if !info.IsManifest() {
		return Info{}, ErrNotFound // torn
	}
	return info, nil
}

// Stat implements [Content].
func (d *Dir) Stat(ctx context.Context, repo string, dgst digest.Digest) (Info, error) {
	info, c, err := d.lookup(ctx, repo, dgst)
	if err != nil {
		return Info{}, err
	}
	size, err := durable.Size(d.blobPath(c))
	return withSize(info, size, err)
}

// Open implements [Content]. The reader is an *os.File.
func (d *Dir) Open(ctx context.Context, repo string, dgst digest.Digest) (Info, io.ReadSeekCloser, error) {
	info, c, err := d.lookup(ctx, repo, dgst)
	if err != nil {
		return Info{}, nil, err
	}
	f, size, err := durable.OpenRead(d.blobPath(c))
	if info, err = withSize(info, size, err); err != nil {
		if f != nil {
			f.Close()
		}
		return Info{}, nil, err
	}
	return info, f, nil
}

func (d *Dir) lookup(ctx context.Context, repo string, dgst digest.Digest) (Info, content, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, content{}, err
	}
	c, err := contentOf(dgst)
	if err != nil {
		return Info{}, c, err
	}
	if err := checkRepository(repo); err != nil {
		return Info{}, c, err
	}
	info, err := d.find(repo, c)
	return info, c, err
}

// withSize completes info with the size of its bytes; err is that of finding it. It
// returns ErrNotFound if the bytes are gone or a record gives another size.
func withSize(info Info, size int64, err error) (Info, error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Info{}, ErrNotFound
	case err != nil:
		return Info{}, fmt.Errorf("store: %w", err)
	case info.Size >= 0 && info.Size != size:
		return Info{}, ErrNotFound
	}
	info.Size = size
	return info, nil
}

// link links bytes that are there in repo, and notes the origin.
func (d *Dir) link(repo string, c content, info Info) error {
	if info.IsManifest() {
		return d.linkManifest(repo, c, info)
	}
	if err := d.linkBlob(repo, c, info.Source); err != nil {
		return err
	}
	if err := d.noteOrigin(repo, c, info.Origin()); err != nil {
		return err
	}
	if d.crowded() {
		return d.settle(repo)
	}
	return nil
}

func (d *Dir) linkBlob(repo string, c content, source string) error {
	defer d.locked(repo, c.hex).Unlock()
	if durable.Exists(d.linkPath(repo, manifestLinks, c)) {
		if _, err := d.findManifest(repo, c); err == nil {
			return nil // once a manifest, always one
		}
	}
	path := d.linkPath(repo, blobLinks, c)
	return d.at(repo, d.path("repos", repo, blobLinks), func() error {
		err := d.disk.Symlink(targetOf(source), path)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if old, err := readTarget(path); err == nil && old == source {
			return nil
		}
		return d.disk.ReplaceSymlink(targetOf(source), path)
	})
}

func (d *Dir) noteOrigin(repo string, c content, origin string) error {
	return d.at(repo, d.blobFolder(c), func() error {
		return d.disk.Link(d.blobPath(c), d.originPath(c, origin))
	})
}

// linkManifest makes a manifest visible once everything before it is durable.
func (d *Dir) linkManifest(repo string, c content, info Info) error {
	data, err := json.Marshal(manifestRecord{
		MediaType: info.MediaType, Manifest: info.Manifest, Size: info.Size, Source: info.Source, Subject: info.Subject,
		ArtifactType: info.ArtifactType, Annotations: info.Annotations,
	})
	if err != nil {
		return err
	}
	if err := d.noteOrigin(repo, c, info.Origin()); err != nil {
		return err
	}
	path := d.linkPath(repo, manifestLinks, c)
	if old, err := durable.ReadFile(path); err == nil && bytes.Equal(old, data) {
		// The call that linked it may not have synced that yet.
		d.changed(repo, d.path("repos", repo, manifestLinks))
		return d.settle(repo)
	}
	if info.Subject != "" {
		if err := d.noteReferrer(repo, c, info.Subject); err != nil {
			return err
		}
	}
	temp, err := d.disk.WriteTemp(data, true)
	if err != nil {
		return err
	}
	err = d.settle(repo)
	if err == nil {
		err = d.placeManifest(repo, c, temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return d.settle(repo)
}

func (d *Dir) placeManifest(repo string, c content, temp, path string) error {
	defer d.locked(repo, c.hex).Unlock()
	err := d.at(repo, d.path("repos", repo, manifestLinks), func() error { return d.disk.Rename(temp, path) })
	if err != nil {
		return err
	}
	if blob := d.linkPath(repo, blobLinks, c); durable.Exists(blob) {
		if err := d.disk.Remove(blob); err != nil {
			return err
		}
		d.changed(repo, d.path("repos", repo, blobLinks))
	}
	return nil
}

// referrerFolder is repos/NAME/_referrers/sha256-HEX of the subject.
func (d *Dir) referrerFolder(repo string, subject content) string {
	return d.linkPath(repo, referrerLinks, subject)
}

// noteReferrer links a manifest among the referrers of its subject. That happens
// before the manifest is visible; a list skips it until then.
func (d *Dir) noteReferrer(repo string, c content, subject digest.Digest) error {
	s, err := contentOf(subject)
	if err != nil {
		return err
	}
	folder, name := d.referrerFolder(repo, s), c.alg+"-"+c.hex
	return d.at(repo, folder, func() error {
		err := d.disk.Symlink("../../"+manifestLinks+"/"+name, folder+"/"+name)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	})
}

// Adopt implements [Content].
func (d *Dir) Adopt(ctx context.Context, repo string, want Info, allowed func(context.Context, io.ReadSeeker) error) error {
	if err := checkInfo(ctx, repo, want); err != nil {
		return err
	}
	c, _ := contentOf(want.Digest)
	if _, err := d.adoptable(c, want); err != nil {
		return err
	}
	have, _, err := durable.OpenRead(d.blobPath(c))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound // a Sweep took them just now
	}
	if err != nil {
		return d.wrap("adopt", repo, c, err)
	}
	err = allowed(ctx, have)
	have.Close()
	if err != nil {
		return err
	}
	d.sweep.RLock()
	defer d.sweep.RUnlock()
	size, err := d.adoptable(c, want) // they may have gone meanwhile
	if err != nil {
		return err
	}
	d.leansOn(repo, d.blobFolder(c))
	d.noteLinked(c)
	return d.wrap("adopt", repo, c, d.link(repo, c, linked(want, size)))
}

// adoptable returns the size of bytes that came from want's origin. It returns
// ErrNotFound if there are none, and ErrSize if want.Size is known and differs.
func (d *Dir) adoptable(c content, want Info) (int64, error) {
	if !durable.Exists(d.originPath(c, want.Origin())) {
		return 0, ErrNotFound
	}
	info := Info{}
	info.Size = -1
	size, err := durable.Size(d.blobPath(c))
	if info, err = withSize(info, size, err); err != nil {
		return 0, err
	}
	if want.Size >= 0 && want.Size != size {
		return 0, sizeError(want.Size, size)
	}
	return size, nil
}

// wrap adds to an error what failed.
func (d *Dir) wrap(what, repo string, c content, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: %s %s in %s: %w", what, c.digest, repo, fullError(err))
}

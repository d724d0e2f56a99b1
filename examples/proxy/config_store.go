package main

import (
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullthrough/pullthrough/auth/azure"
)

// farConfig is a bucket behind the store, of one of two kinds.
type farConfig struct {
	position
	s3     s3Config
	azblob azblobConfig
}

// s3Config is a bucket of S3.
type s3Config struct {
	position
	endpoint, region, bucket, prefix, ca word
	virtualHosts                         bool
	accessKey, secretKey, sessionToken   secretConfig
}

// azblobConfig is a container of Azure Blob Storage.
type azblobConfig struct {
	position
	url, prefix, identity word
	key, sas              secretConfig
}

// read returns the read of the far section.
func (f *farConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		f.position = pos
		before := r.count()
		r.fields(n, pos, map[string]read{"s3": f.s3.read(r), "azblob": f.azblob.read(r)})
		if r.sketch == nil && r.count() == before && (f.s3.line == 0) == (f.azblob.line == 0) {
			r.add(pos, "must have one of s3 and azblob")
		}
	}
}

// read returns the read of a bucket of S3.
func (s *s3Config) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		s.position = pos
		r.fields(n, pos, map[string]read{
			"endpoint":     r.word(&s.endpoint),
			"region":       r.word(&s.region),
			"bucket":       r.word(&s.bucket),
			"prefix":       r.word(&s.prefix),
			"ca":           r.word(&s.ca),
			"virtualHosts": r.flag(&s.virtualHosts),
			"accessKey":    s.accessKey.readKept(r),
			"secretKey":    s.secretKey.readKept(r),
			"sessionToken": s.sessionToken.readKept(r),
		})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "bucket", s.bucket)
		}
	}
}

// read returns the read of a container of Azure.
func (a *azblobConfig) read(r reader) read {
	return func(n *yaml.Node, pos position) {
		a.position = pos
		r.fields(n, pos, map[string]read{
			"url":      r.word(&a.url),
			"prefix":   r.word(&a.prefix),
			"identity": r.word(&a.identity),
			"key":      a.key.readKept(r),
			"sas":      a.sas.readKept(r),
		})
		if r.sketch != nil || resolve(n).Kind == yaml.MappingNode {
			r.require(pos, "url", a.url)
		}
	}
}

// readKept returns the read of a secret that is never a plain text, and in no vault.
func (s *secretConfig) readKept(r reader) read {
	return func(n *yaml.Node, pos position) {
		s.choose(r, n, pos, "value, env and file", map[string]read{
			"value": r.word(&s.value), "env": r.word(&s.env), "file": r.word(&s.file),
		})
	}
}

// The kinds of stores.
const (
	storeMem = "mem"
	storeDir = "dir"
)

// readStore checks store and far. A store is dir:PATH, mem: or mem, since YAML needs quotes for
// a colon at the end of a line. It is not opened, since -check must work while a proxy uses it,
// and no server is asked.
func (s *settings) readStore(c *config, ids *azure.Identities, found *mistakes) {
	s.storeKind = storeMem
	kind, path, ok := strings.Cut(c.store.text, ":")
	switch {
	case c.store.text == "":
	case ok && kind == storeDir && path != "":
		s.storeKind, s.storePath = kind, path
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			found.add(c.store.position, "%s is not a folder", path)
		}
	case kind == storeMem && path == "":
	case ok && (kind == "s3" || kind == "azblob"):
		found.add(c.store.position, "%q is not a store: a bucket stands behind one, as far: {%s: {...}}", c.store.text, kind)
	default:
		found.add(c.store.position, "%q is neither dir:PATH nor mem", c.store.text)
	}
	if c.far.line == 0 {
		return
	}
	if s.storeKind == storeMem {
		found.add(c.far.position, "needs store: dir:PATH, a folder on a disk of this machine: what is pulled goes there first, and stays there for the next pull")
	}
	s.far = c.far.bucket(ids, found)
}

// storeName names the store for people.
func (s *settings) storeName() string {
	name := s.storeKind + ":" + s.storePath
	if s.far != nil {
		name += " before " + s.far.name
	}
	return name
}

// same reports whether two sections are equal, apart from the content of files.
func (f farConfig) same(o farConfig) bool {
	texts := func(f farConfig) []string {
		var all []string
		for _, w := range []word{f.s3.endpoint, f.s3.region, f.s3.bucket, f.s3.prefix, f.s3.ca, f.azblob.url, f.azblob.prefix, f.azblob.identity} {
			all = append(all, w.text)
		}
		return all
	}
	x, y := f.s3, o.s3
	return slices.Equal(texts(f), texts(o)) && x.virtualHosts == y.virtualHosts && x.accessKey.same(y.accessKey) && x.secretKey.same(y.secretKey) &&
		x.sessionToken.same(y.sessionToken) && f.azblob.key.same(o.azblob.key) && f.azblob.sas.same(o.azblob.sas)
}

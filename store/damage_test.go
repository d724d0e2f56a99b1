package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DamageDir names for a second process, this test binary again, the folder of a store
// that it damages. DamageFrom is the first of the ways to do it.
const (
	DamageDir  = "STORE_TEST_DAMAGE_DIR"
	DamageFrom = "STORE_TEST_DAMAGE_FROM"
)

// goods is what the store has that is damaged: content of all kinds in many repositories,
// tags, records and parts. It is the same in each process.
type goods struct {
	pieces []piece
	repos  int
}

func newGoods() goods {
	g := goods{repos: 60}
	for i := range 40 {
		info, data := content1(fmt.Sprint("good ", i, " "), []int{100, 700, 2500, 9000}[i%4])
		g.pieces = append(g.pieces, piece{info, data})
	}
	for i, n := range []int{20 << 10, 45 << 10} { // a manifest on several pages, and a file
		info, data := content1(fmt.Sprint("large ", i, " "), n)
		g.pieces = append(g.pieces, piece{info, data})
	}
	return g
}

func (g goods) repo(i int) string { return fmt.Sprintf("team/repository-%03d", i) }

// in returns what repository i has: a manifest and two blobs.
func (g goods) in(i int) (manifest piece, blobs []piece) {
	manifest = g.pieces[i%(len(g.pieces)-1)]
	manifest.info.MediaType = ocispec.MediaTypeImageManifest
	manifest.info.Subject = g.pieces[0].info.Digest
	for _, p := range []piece{g.pieces[(i+1)%len(g.pieces)], g.pieces[len(g.pieces)-1]} {
		p.info.MediaType = ocispec.MediaTypeImageLayerGzip
		blobs = append(blobs, p)
	}
	return manifest, blobs
}

func (g goods) tag(i, at int) Tag {
	manifest, _ := g.in(i)
	return Tag{Descriptor: manifest.info.Descriptor, Source: manifest.info.Source, Asked: asked(at)}
}

func (g goods) record(i int) (kind, key string, data []byte) {
	return []string{"jobs", "outbox"}[i%2], fmt.Sprint("key-", i), bytes.Repeat(fmt.Appendf(nil, "record %d ", i), 1+i%30)
}

const goodRecords = 200

// write writes all of it.
func (g goods) write(ctx context.Context, d *Dir) error {
	var batch Batch
	for i := range goodRecords {
		kind, key, data := g.record(i)
		batch.Records = append(batch.Records, RecordChange{kind, key, data})
	}
	for i := range g.repos {
		manifest, blobs := g.in(i)
		for _, p := range append(blobs, manifest) {
			if len(p.data) > smallContent && !p.info.IsManifest() {
				if err := writeFile(ctx, d, g.repo(i), p); err != nil {
					return err
				}
				continue
			}
			batch.Content = append(batch.Content, Piece{Repo: g.repo(i), Info: p.info, Bytes: p.data})
		}
		batch.Tags = append(batch.Tags, TagChange{Repo: g.repo(i), Tag: "v1", Value: g.tag(i, 5)})
	}
	return d.Apply(ctx, &batch)
}

func writeFile(ctx context.Context, d *Dir, repo string, p piece) error {
	if err := d.Adopt(ctx, repo, p.info, func(context.Context, io.ReadSeeker) error { return nil }); !errors.Is(err, ErrNotFound) {
		return err
	}
	w, err := d.Create(ctx, repo, p.info)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(p.data); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// finding is what is read of it.
type finding struct {
	missing []string
	records int
}

// read reads all of it. What is there must be right. The error is another one than
// ErrNotFound.
func (g goods) read(ctx context.Context, d *Dir) (f finding, err error) {
	count := func(e error, right bool, what string) {
		switch {
		case errors.Is(e, ErrNotFound):
			f.missing = append(f.missing, what)
		case e != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", what, e))
		case !right:
			err = errors.Join(err, fmt.Errorf("%s: %w", what, errWrong))
		}
	}
	buf := make([]byte, 64<<10) // more than any piece has
	for i := range g.repos {
		manifest, blobs := g.in(i)
		for _, p := range append(blobs, manifest) {
			_, r, e := d.Open(ctx, g.repo(i), p.info.Digest)
			var got []byte
			if e == nil {
				var n int
				if n, e = io.ReadFull(r, buf); e == io.ErrUnexpectedEOF || e == io.EOF {
					e = nil
				}
				got = buf[:n]
				r.Close()
			}
			count(e, bytes.Equal(got, p.data), fmt.Sprint("content of ", len(p.data), " bytes in repository ", i))
		}
		tag, e := d.Tag(ctx, g.repo(i), "v1")
		count(e, tag.Digest == manifest.info.Digest && tag.Asked.Equal(asked(5)), fmt.Sprint("tag in repository ", i))
	}
	for i := range goodRecords {
		kind, key, want := g.record(i)
		data, e := d.Record(ctx, kind, key)
		count(e, bytes.Equal(data, want), "record")
		if e == nil {
			f.records++
		}
	}
	n := 0
	for name, e := range d.Repositories(ctx, "") {
		count(e, strings.HasPrefix(name, "team/repository-"), "name of a repository")
		if n++; n > 2*g.repos {
			return f, errors.Join(err, fmt.Errorf("the list has no end: %w", errWrong))
		}
	}
	return f, err
}

var errWrong = errors.New("something else than was written")

// makeGoods makes the store that is damaged, and returns the used part of its database.
func makeGoods(t *testing.T, dir string, g goods) []byte {
	d := newDir(t, dir)
	d.disk.NoSync = true
	for i := range g.repos { // so that there are free pages, and old values in them
		if err := d.SetTag(t.Context(), g.repo(i), "v1", g.tag(i, 4)); err != nil {
			t.Fatal(err)
		}
	}
	keepPart(t, d, "part", 100<<10)
	last := func() error { return d.PutRecord(t.Context(), "other", "last", nil) } // a damaged meta page costs it
	if err := errors.Join(g.write(t.Context(), d), last(), d.Close()); err != nil {
		t.Fatal(err)
	}
	return readIndex(d.path("index.db"))
}

// A damaged database ends no process, never yields anything wrong, and is either served,
// with something missing, or begun anew, with all records whose pages are whole. Then
// life goes on. With PULLTHROUGH_CRASHES set, as many single bits are flipped.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir, g := t.TempDir(), newGoods()
	db := makeGoods(t, filepath.Join(dir, "whole"), g)
	n := len(g.damages(db))
	t.Logf("%d pages, damaged in %d ways", len(db)/diskPage, n)
	results := map[string]int{}
	for from := 0; from < n; {
		cmd := exec.Command(os.Args[0])
		// Its goroutines wait for one another, and what is damaged is small.
		cmd.Env = append(os.Environ(), DamageDir+"="+dir, DamageFrom+"="+strconv.Itoa(from), "GOMAXPROCS=1", "GOGC=400")
		errs := new(bytes.Buffer)
		cmd.Stderr = errs
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		last := ""
		hang := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			hang.Reset(time.Minute)
			kind, rest, _ := strings.Cut(lines.Text(), " ")
			switch kind {
			case "begin":
				last = rest
				from++
			case "result":
				results[rest]++
			case "wrong":
				t.Errorf("%s: %s", last, rest)
			}
		}
		if err := cmd.Wait(); err != nil {
			text := errs.String()
			t.Errorf("%s: the process ends: %v: %.300s", last, err, text)
		}
		if !hang.Stop() {
			t.Errorf("%s: the process hangs", last)
		}
	}
	for what, n := range results {
		t.Logf("%4d %s", n, what)
	}
	if results["served"] == 0 || results["begun anew"] == 0 {
		t.Error("one of the two never happens")
	}
}

func (g goods) damages(db []byte) []damage {
	n := 24
	all := false
	if text := os.Getenv("PULLTHROUGH_CRASHES"); text != "" {
		n, _ = strconv.Atoi(text)
		all = true
	}
	return damages(db, rand.New(rand.NewPCG(5, 6)), n, all)
}

// DamageChild damages the store in some ways, one after the other, and says on its output
// what comes of it.
func DamageChild(dir string) {
	g := newGoods()
	whole := filepath.Join(dir, "whole")
	db := readIndex(whole + "/index.db")
	table, root := rootOf(db, "records")
	records := append(tree(db, root), table, 0, 1)
	from, _ := strconv.Atoi(os.Getenv(DamageFrom))
	list := g.damages(db)
	for _, way := range list[from:min(len(list), from+200)] { // what is damaged stays mapped
		fmt.Println("begin", way.name)
		path := filepath.Join(dir, "damaged")
		if err := copyStore(whole, path, way.do(bytes.Clone(db))); err != nil {
			fmt.Println("wrong", err)
		}
		result, err := g.survive(path, !way.harms(records))
		if err != nil {
			fmt.Println("wrong", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		fmt.Println("result", result)
	}
}

// copyStore copies a store, but for the database.
func copyStore(from, to string, db []byte) error {
	if err := errors.Join(os.RemoveAll(to), os.Mkdir(to, 0o700)); err != nil {
		return err
	}
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		switch {
		case err != nil || rel == "." || e.Name() == "index.db" || e.Name() == "lock":
			return err
		case e.IsDir():
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
	return errors.Join(err, os.WriteFile(filepath.Join(to, "index.db"), db, 0o600))
}

// survive opens a damaged store until nothing in it is damaged, three times at most.
func (g goods) survive(path string, recordsWhole bool) (result string, err error) {
	ctx := context.Background()
	result = "served"
	for n := range 3 {
		d := new(Dir)
		d.disk.NoSync, d.MinFree = true, -1
		if err := d.openAt(path); err != nil {
			return result, fmt.Errorf("OpenDir: %w", err)
		}
		if d.Rebuilt() != nil {
			result = "begun anew"
		}
		found, err := g.read(ctx, d)
		if errors.Is(err, errWrong) || err != nil && !errors.Is(err, ErrDamaged) {
			return result, err
		}
		if recordsWhole && err == nil && found.records < goodRecords {
			return result, fmt.Errorf("opened %d times, %s: %d of %d records are there; %w", n+1, result, found.records, goodRecords, d.Rebuilt())
		}
		if n == 0 && err == nil && len(found.missing) > 0 && d.Rebuilt() == nil {
			result = "served, with something missing"
		}
		if err == nil {
			err = g.write(ctx, d)
		}
		if err == nil {
			found, err = g.read(ctx, d)
		}
		cerr := d.Close()
		switch {
		case err == nil && len(found.missing) > 0 && n < 2:
			// A change of a page whose keys are damaged can hide others. They are pulled again.
		case err == nil && len(found.missing) > 0:
			return result, fmt.Errorf("opened %d times, %s, and these cannot be read that were written once more: %q", n+1, result, found.missing)
		case err == nil:
			if n == 0 { // a second process must find it, too
				continue
			}
			return result, cerr
		case !errors.Is(err, ErrDamaged):
			return result, err
		}
	}
	return result, errors.New("it is damaged whenever it is opened")
}

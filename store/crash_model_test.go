package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// state is what a teller expects in its repositories: words for links, tags, records and
// parts, each with what it has.
type state map[string]string

// piece is content of the random stories.
type piece struct {
	info Info // as a manifest
	data []byte
}

// pieces are of all kinds of sizes. Some name others as their subject.
func pieces() (all []piece) {
	for i, n := range []int{0, 1, 700, 2000, smallContent, smallContent + 1, 30 << 10, 70 << 10, 500, 600, 40 << 10, 900} {
		info, data := content1(fmt.Sprint("piece ", i, " "), n)
		info.MediaType = ocispec.MediaTypeImageManifest
		if i%3 == 2 {
			info.Subject = all[i/2].info.Digest
		}
		all = append(all, piece{info, data})
	}
	return all
}

// teller tells a random story in repositories of its own. Others use the same content.
type teller struct {
	name   string
	d      *Dir
	random *rand.Rand
	pieces []piece
	over   func() bool
	clock  int

	now   state
	next  state  // what the call that is under way makes of it; nil if there is none
	taken string // the part of the spool that is under way
}

// tell does things until the power goes.
func (w *teller) tell(ctx context.Context) error {
	for !w.over() {
		next := maps.Clone(w.now)
		w.next = next
		err := w.act(ctx, next)
		switch {
		case w.over(): // it may be done or not
			return nil
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrStale):
		case err != nil:
			return err
		default:
			w.now = next
		}
		w.next = nil
	}
	return nil
}

func (w *teller) repo() string { return fmt.Sprint(w.name, "/", w.random.IntN(2)) }

func (w *teller) pick() (info Info, data []byte) {
	p := w.pieces[w.random.IntN(len(w.pieces))]
	info = p.info
	if w.random.IntN(3) > 0 {
		info.MediaType, info.Subject = ocispec.MediaTypeImageLayerGzip, ""
	}
	if w.random.IntN(3) == 0 {
		info.Source = "https://b.example/y"
	}
	return info, p.data
}

// link notes that content is linked.
func (s state) link(repo string, info Info) {
	key := "link " + repo + " " + string(info.Digest)
	if strings.HasPrefix(s[key], "manifest") && !info.IsManifest() {
		return
	}
	kind := "blob"
	if info.IsManifest() {
		kind = "manifest"
	}
	s[key] = fmt.Sprint(kind, " ", info.Source, " ", info.Subject, " ", info.Size)
}

func tagWord(t Tag) string { return fmt.Sprint(t.Digest, " ", t.Source, " ", t.Asked.Unix()) }

// act does one thing, and notes it in next.
func (w *teller) act(ctx context.Context, next state) error {
	repo := w.repo()
	info, data := w.pick()
	switch w.random.IntN(12) {
	case 0, 1:
		next.link(repo, info)
		return w.create(ctx, repo, info, data)
	case 2, 3:
		return w.spool(ctx, repo, info, data, next)
	case 4:
		next.link(repo, info)
		return w.d.Adopt(ctx, repo, info, func(_ context.Context, have io.ReadSeeker) error {
			if got, err := io.ReadAll(have); err != nil || !bytes.Equal(got, data) {
				return fmt.Errorf("wrong bytes to adopt: %d, %w", len(got), err)
			}
			return nil
		})
	case 5, 6:
		delete(next, "link "+repo+" "+string(info.Digest))
		return w.d.Delete(ctx, repo, info.Digest)
	case 7:
		tag, value := w.tag(info)
		if w.stale(repo, tag, value) {
			return ErrStale
		}
		next["tag "+repo+" "+tag] = tagWord(value)
		return w.d.SetTag(ctx, repo, tag, value)
	case 8:
		tag, _ := w.tag(info)
		delete(next, "tag "+repo+" "+tag)
		return w.d.DeleteTag(ctx, repo, tag)
	case 9:
		key, text := w.record(), fmt.Sprint(w.clock)
		next["record "+key] = text
		return w.d.PutRecord(ctx, "jobs", key, []byte(text))
	case 10:
		key := w.record()
		delete(next, "record "+key)
		return w.d.DeleteRecord(ctx, "jobs", key)
	}
	w.d.RecordUse(repo, info.Digest)
	return w.batch(ctx, next)
}

func (w *teller) record() string { return fmt.Sprint(w.name, ".", w.random.IntN(4)) }

// tag returns a tag and a value for it, which is sometimes older than the stored one.
func (w *teller) tag(info Info) (string, Tag) {
	w.clock++
	at := w.clock
	if w.random.IntN(5) == 0 {
		at -= 3
	}
	return fmt.Sprint("v", w.random.IntN(3)), Tag{Descriptor: ocispec.Descriptor{Digest: info.Digest, Size: info.Size}, Source: info.Source, Asked: asked(at)}
}

// stale reports whether a tag has an answer already that is newer.
func (w *teller) stale(repo, tag string, value Tag) bool {
	old := strings.Fields(w.now["tag "+repo+" "+tag])
	return len(old) == 3 && old[1] == value.Source && old[2] > fmt.Sprint(value.Asked.Unix())
}

func (w *teller) create(ctx context.Context, repo string, info Info, data []byte) error {
	c, err := w.d.Create(ctx, repo, info)
	if err != nil {
		return err
	}
	defer c.Close()
	for len(data) > 0 {
		n := min(len(data), 1+w.random.IntN(50<<10))
		if _, err := c.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return c.Commit(ctx)
}

// spool writes content out of order, and commits it, keeps a part, or gives it up.
func (w *teller) spool(ctx context.Context, repo string, info Info, data []byte, next state) error {
	key := "part " + repo + " " + info.Origin() + " " + string(info.Digest)
	w.taken = key
	front := int64(0)
	_, _ = fmt.Sscan(w.now[key], &front)
	sp, err := w.d.Spool(ctx, repo, info)
	if err != nil {
		return err
	}
	defer sp.Close()
	c := sp.(Checkpointer)
	if c.Progress().Front != front {
		return fmt.Errorf("a spool begins at %d, not at %d", c.Progress().Front, front)
	}
	delete(next, key)
	how := w.random.IntN(4)
	middle := front + w.random.Int64N(info.Size-front+1)
	for _, part := range [][2]int64{{middle, info.Size}, {front, middle}} {
		if _, err := sp.WriteAt(data[part[0]:part[1]], part[0]); err != nil {
			return err
		}
		if how == 0 {
			return nil // given up
		}
	}
	if how == 1 && middle > 0 {
		next[key] = fmt.Sprint(middle)
		if err := c.Checkpoint(Progress{Front: middle, Size: info.Size}); err != nil {
			return err
		}
		return c.Keep()
	}
	next.link(repo, info)
	return sp.Commit(ctx, info)
}

// batch ends a copy: content, a tag with its event, and records, all or nothing.
func (w *teller) batch(ctx context.Context, next state) error {
	b := new(Batch)
	for range w.random.IntN(3) {
		repo := w.repo()
		info, data := w.pick()
		b.Content = append(b.Content, Piece{Repo: repo, Info: info, Bytes: data})
		next.link(repo, info)
	}
	if w.random.IntN(4) == 0 {
		repo := w.repo()
		info, _ := w.pick()
		b.Deletions = append(b.Deletions, Deletion{Repo: repo, Digest: info.Digest})
	}
	repo := w.repo()
	info, _ := w.pick()
	tag, value := w.tag(info)
	event := fmt.Sprint(w.name, ".event-", w.clock)
	b.Tags = []TagChange{{Repo: repo, Tag: tag, Value: value, Records: []RecordChange{{Kind: "outbox", Key: event, Data: []byte(event)}}}}
	stays := w.stale(repo, tag, value) || w.now["tag "+repo+" "+tag] == tagWord(value)
	if !stays {
		next["tag "+repo+" "+tag] = tagWord(value)
		next["outbox "+event] = event
	}
	for _, del := range b.Deletions {
		delete(next, "link "+del.Repo+" "+string(del.Digest))
	}
	key := w.record()
	b.Records = []RecordChange{{Kind: "jobs", Key: key}}
	delete(next, "record "+key)
	err := w.d.Apply(ctx, b)
	if err == nil && !w.over() && w.stale(repo, tag, value) != errors.Is(b.Tags[0].Err, ErrStale) {
		return fmt.Errorf("a tag of a batch: %w", b.Tags[0].Err)
	}
	return err
}

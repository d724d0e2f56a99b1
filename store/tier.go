package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Tier is a store of two: a near one, which belongs to this process and may lose anything,
// and a far one, which counts and which other processes may share. Near is a [Dir] as a
// rule, and Far an object store. Use it by its address; it must not be copied. It is safe
// for concurrent use.
//
// Blobs are written near. When a manifest is committed, the blobs that it names and that
// Far lacks go far, then the manifest, and then the manifest near: an error leaves nothing
// near that Far has not. So Far has whole images only, and a copy that could not end begins
// no download again.
//
// What is read is read near. What Near lacks is read far and comes near meanwhile, once for
// all readers: they follow what has come, and the last 64 KiB of a blob wait for its digest. A
// reader far ahead of that reads far by itself. Wrong bytes of Far have no end for a reader of
// all of them: they count as missing for 10 minutes, and a copy sends them again. A manifest
// that is near is looked up far behind its reader if that was not done for 5 minutes, and given
// up near if another process has deleted it.
//
// Far decides about tags. Near has a copy of each, which stands in while Far fails. Lists
// are those of Far. Records are near: they belong to the process.
//
// Near can lose everything at any time. What it gives up, by eviction or because it is
// damaged, comes back from Far at the next read.
//
// # Trouble
//
// While Far fails, what is near is served, and what is not near is an error that wraps
// [ErrUnavailable], as is the commit of a manifest; it is no [ErrNotFound], since nobody
// knows. A question to Far that is not answered within Patience counts as failed. After
// such a one, or after three failures in a row, Far is left alone for 1 second, and for
// longer up to 10 seconds if it fails again; calls that need it fail at once meanwhile.
// A Near that fails makes reads go far, and costs nothing else.
//
// # Requests to Far
//
//	a warm image                                0, and each 5 minutes 1 behind it
//	a tag                                       1 (package cache remembers it)
//	a manifest or a blob that only Far has      1, however many readers it has, and 1 for each that comes
//	                                            at the same moment; 2 if more than 4 blobs come near at once
//	a blob that neither has                     2: its link, and its bytes elsewhere; for a second none
//	the commit of a manifest                    1 for each blob, the bytes of those that Far lacks, and
//	                                            the manifest
//	a tag that moves                            1
//
// A request is a call of a method of Far, which may take several in turn.
type Tier struct {
	// Near is the store of this process. Neither it nor Far may be nil, and both must not
	// change after the first use. They are not closed by Close.
	Near Store
	// Far is the store that counts. Its methods must return soon after their context has
	// ended, and a Read of what its Open returned must end by itself if nothing comes.
	Far Store
	// Patience is how long a question to Far may take. If zero, it is 2 seconds. If
	// negative, there is no limit. It must not change after the first use.
	Patience time.Duration
	// Logger gets what goes wrong beside the calls. If nil, nothing is logged. It must not
	// change after the first use.
	Logger *slog.Logger

	once sync.Once
	s    *tierState
}

// ErrUnavailable reports that a store, or the part of it that was needed, does not answer
// now. Nothing is known about what was asked.
var ErrUnavailable = errors.New("store: not available")

// tierState is what a Tier knows of its stores. It is safe for concurrent use.
type tierState struct {
	outage outage
	memory tierMemory
	work   *tierWork
	turns  turns
	fills  fills
}

// state returns the state, which the first use makes.
func (t *Tier) state() *tierState {
	t.once.Do(func() {
		t.s = &tierState{memory: newTierMemory(), work: newTierWork()}
	})
	return t.s
}

// Close ends what is being brought near and waits for it. Near and Far are not closed.
// Later calls work, but nothing is brought near by them.
func (t *Tier) Close() error {
	t.state().work.close()
	return nil
}

func (t *Tier) log() *slog.Logger {
	if t.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return t.Logger
}

// Stat implements [Content].
func (t *Tier) Stat(ctx context.Context, repo string, d digest.Digest) (Info, error) {
	info, missing := t.Near.Stat(ctx, repo, d)
	if missing == nil {
		return info, nil
	}
	if err := t.lookFar(ctx, repo, d, missing); err != nil {
		return Info{}, err
	}
	era := t.state().memory.now()
	info, err := t.statFar(ctx, repo, d)
	return info, t.learned(repo, d, info, era, missing, err)
}

// statFar describes content of Far.
func (t *Tier) statFar(ctx context.Context, repo string, d digest.Digest) (info Info, err error) {
	err = t.ask(ctx, t.patience(), func(ctx context.Context, _ *time.Timer) (err error) {
		info, err = t.Far.Stat(ctx, repo, d)
		return err
	})
	return info, err
}

// lookFar says whether Far is to be asked for what Near does not yield, because of missing.
// If not, it returns the error of the call.
func (t *Tier) lookFar(ctx context.Context, repo string, d digest.Digest, missing error) error {
	if err := checkContent(ctx, repo, d); err != nil {
		return err
	}
	near := errors.Is(missing, ErrNotFound)
	if !near {
		t.log().Warn("the near store fails; the far one is asked", "repository", repo, "digest", d.String(), "err", missing)
	}
	if near && t.state().memory.lacks(linkOf(repo, d)) {
		return ErrNotFound
	}
	return nil
}

// learned notes what Far said about content of a repository, and returns the error of the
// call: if neither store has it, that of Near.
func (t *Tier) learned(repo string, d digest.Digest, info Info, era int64, missing, err error) error {
	switch m := &t.state().memory; {
	case err == nil:
		m.found(repo, info, era)
	case errors.Is(err, ErrNotFound):
		m.missed(linkOf(repo, d), era)
		return missing
	}
	return err
}

// Open implements [Content]. The reader is that of Near if Near has the content.
func (t *Tier) Open(ctx context.Context, repo string, d digest.Digest) (Info, io.ReadSeekCloser, error) {
	info, r, missing := t.Near.Open(ctx, repo, d)
	if missing == nil {
		if info.IsManifest() {
			t.recheck(repo, d)
		}
		return info, r, nil
	}
	if err := t.lookFar(ctx, repo, d, missing); err != nil {
		return Info{}, nil, err
	}
	if info, r, ok := t.join(linkOf(repo, d)); ok {
		return info, r, nil
	}
	era, deletions := t.state().memory.now(), t.state().memory.deletions.Load()
	info, r, err := t.openFar(ctx, repo, d)
	if err := t.learned(repo, d, info, era, missing, err); err != nil {
		return Info{}, nil, err
	}
	if s, small := r.(*farSmall); small {
		t.bring(repo, info, deletions, s.data)
		return info, r, nil
	}
	if follows := t.follow(ctx, repo, info, deletions, r); follows != nil {
		return info, follows, nil
	}
	t.bring(repo, info, deletions, nil)
	return info, newWholeReader(t, repo, info, r), nil
}

// farSmall reads what was read far as a whole.
type farSmall struct {
	smallReader
	data []byte
}

// openFar opens content of Far. A manifest and what is small is read as a whole and its
// digest checked; what does not match is not there.
func (t *Tier) openFar(ctx context.Context, repo string, d digest.Digest) (info Info, r io.ReadSeekCloser, err error) {
	c, err := t.call(ctx, t.patience())
	if err != nil {
		return Info{}, nil, err
	}
	info, r, err = t.Far.Open(c.ctx, repo, d)
	if err != nil {
		return Info{}, nil, c.end(err)
	}
	if !(info.IsManifest() && info.Size <= maxManifest || info.Size >= 0 && info.Size <= smallFar) {
		c.opened()
		return info, &farReader{r, c}, nil
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err = c.end(err); err != nil {
		return Info{}, nil, err
	}
	if d.Algorithm().FromBytes(data) != d {
		t.damaged(repo, info)
		return Info{}, nil, ErrNotFound
	}
	s := &farSmall{data: data}
	s.Reset(data)
	return info, s, nil
}

// Create implements [Content]. A blob is written near, and a manifest, of 4 MiB at most,
// into memory until it is committed.
func (t *Tier) Create(ctx context.Context, repo string, want Info) (Writer, error) {
	if err := checkInfo(ctx, repo, want); err != nil {
		return nil, err
	}
	if want.IsManifest() {
		return &tierWriter{t: t, repo: repo, want: want}, nil
	}
	if err := t.staysManifest(ctx, repo, want.Digest); err != nil {
		return nil, err
	}
	return t.Near.Create(ctx, repo, want)
}

// staysManifest brings near what is known to be a manifest far, before it is written near
// as a blob, which would hide it.
func (t *Tier) staysManifest(ctx context.Context, repo string, d digest.Digest) error {
	m := &t.state().memory
	if known, ok := m.has(linkOf(repo, d)); !ok || !known.manifest {
		return nil
	}
	era := m.now()
	info, r, err := t.openFar(ctx, repo, d)
	if errors.Is(err, ErrNotFound) { // another process has deleted it
		m.missed(linkOf(repo, d), era)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	return put(ctx, t.Near, repo, info, r)
}

// put writes what a reader yields into a store. It compares the digest.
func put(ctx context.Context, s Store, repo string, info Info, r io.Reader) error {
	w, err := s.Create(ctx, repo, info)
	if err != nil {
		return err
	}
	defer w.Close()
	v := info.Digest.Verifier()
	// A reader that is no more than that, so that the buffer is used.
	if _, err := io.CopyBuffer(io.MultiWriter(w, v), struct{ io.Reader }{r}, make([]byte, 128<<10)); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("%w: %s in %s", errDamagedCopy, info.Digest, repo)
	}
	return w.Commit(ctx)
}

// errDamagedCopy reports bytes that do not have their digest.
var errDamagedCopy = errors.New("store: what is stored does not match its digest")

// Adopt implements [Content]: bytes that a repository has near, or else far.
func (t *Tier) Adopt(ctx context.Context, repo string, want Info, allowed func(context.Context, io.ReadSeeker) error) error {
	asked := false
	err := t.Near.Adopt(ctx, repo, want, func(ctx context.Context, have io.ReadSeeker) error {
		asked = true
		return allowed(ctx, have)
	})
	if asked || !errors.Is(err, ErrNotFound) {
		return err
	}
	m := &t.state().memory
	origin := originOf(want)
	if m.lacks(origin) {
		return ErrNotFound
	}
	era := m.now()
	err = t.adoptFar(ctx, repo, want, allowed)
	switch {
	case err == nil:
		m.changed(linkOf(repo, want.Digest), origin)
	case errors.Is(err, ErrNotFound):
		m.missed(origin, era)
	}
	return err
}

// adoptFar adopts bytes of Far. The time that allowed takes is not that of Far, and its
// error is returned as it is.
func (t *Tier) adoptFar(ctx context.Context, repo string, want Info, allowed func(context.Context, io.ReadSeeker) error) error {
	var refused error
	err := t.ask(ctx, t.patience(), func(ctx context.Context, clock *time.Timer) error {
		err := t.Far.Adopt(ctx, repo, want, func(ctx context.Context, have io.ReadSeeker) error {
			clock.Stop()
			defer clock.Reset(t.patience())
			refused = allowed(ctx, have)
			return refused
		})
		if refused != nil {
			return nil // Far has answered
		}
		return err
	})
	if refused != nil {
		return refused
	}
	return err
}

// tierWriter is a manifest until it is committed.
type tierWriter struct {
	t      *Tier
	repo   string
	want   Info
	buf    bytes.Buffer
	closed bool
}

func (w *tierWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, errClosed
	}
	if w.buf.Len()+len(p) > maxManifest {
		return 0, fmt.Errorf("%w: the manifest %s has more than %d bytes", ErrSize, w.want.Digest, maxManifest)
	}
	return w.buf.Write(p)
}

func (w *tierWriter) Commit(ctx context.Context) error {
	switch n := int64(w.buf.Len()); {
	case w.closed:
		return errClosed
	case w.want.Size >= 0 && w.want.Size != n:
		return sizeError(w.want.Size, n)
	}
	if err := w.t.commit(ctx, w.repo, w.want, w.buf.Bytes()); err != nil {
		return err
	}
	w.closed = true
	return nil
}

func (w *tierWriter) Close() error {
	w.closed = true
	return nil
}

package flight

import (
	"encoding"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/upstream"
)

// passthrough gives one reader the bytes as they come, without a spool, with a
// hash and a hold-back of the reader's own. Of a whole blob, held buffers bytes
// that are hashed but withheld until the digest matches; the next byte that the
// reader needs is off+len(held).
type passthrough struct {
	remote *remote
	w      io.Writer
	off    int64     // next byte that w gets
	end    int64     // where w's bytes end, -1 at the end of the blob
	pos    int64     // next byte that the upstream is asked for
	size   int64     // -1 if unknown
	hash   hash.Hash // nil if w does not get the whole blob
	held   []byte
	sent   int64
	done   bool // the upstream has sent all
	tries  tries
}

// newPassthrough begins at off and ends at end.
func newPassthrough(r *remote, w io.Writer, off, end, size int64) *passthrough {
	return &passthrough{remote: r, w: w, off: off, end: end, pos: off, size: size, tries: tries{answered: true}}
}

// verify makes it hash the whole blob. It begins with the hash of the broken
// flight where that stopped, and with what the reader can still read of its
// spool.
func (p *passthrough) verify(handover store.Progress, spool *spoolReader) error {
	p.hash = p.remote.Digest.Algorithm().Hash()
	p.pos, p.end = 0, -1
	u, ok := p.hash.(encoding.BinaryUnmarshaler)
	if !ok || handover.Front == 0 || spool.file == nil {
		return nil
	}
	if err := u.UnmarshalBinary(handover.Hash); err != nil {
		return fmt.Errorf("flight: the hash of a broken flight: %w", err)
	}
	p.pos = handover.Front
	if p.off > p.pos {
		// The reader has got bytes of a segment, beyond the front. They must be
		// hashed as the reader got them.
		if _, err := spool.copy(p.hash, p.pos, p.off-p.pos); err != nil {
			return err
		}
		p.pos = p.off
	}
	// What is present, hashed and not sent. Its end is held like everything else.
	if free := p.pos - HoldBack - p.off; free > 0 {
		m, err := spool.copy(p.w, p.off, free)
		p.off += m
		p.sent += m
		if err != nil {
			return err
		}
	}
	var tail buffer
	_, err := spool.copy(&tail, p.off, p.pos-p.off)
	p.held = tail
	return err
}

// next asks for the rest.
func (p *passthrough) next() (want span, complete bool, err error) {
	return span{p.pos, p.end}, p.done, nil
}

// accept checks what the upstream says that it sends.
func (p *passthrough) accept(body upstream.Body, _ time.Duration) error {
	if err := p.remote.checkSize(body.Size, p.size); err != nil {
		return err
	}
	p.size = max(p.size, body.Size)
	return p.remote.checkLargest(p.size)
}

// write hashes data and gives the reader what need not be held back.
func (p *passthrough) write(data []byte) (stop bool, err error) {
	begin := p.pos
	end := begin + int64(len(data))
	if p.size >= 0 && end > p.size {
		return true, p.remote.unusable(ErrSize)
	}
	if err := p.remote.checkLargest(end); err != nil {
		return true, err
	}
	p.pos = end
	if p.hash == nil {
		if over := p.pos - p.end; p.end >= 0 && over > 0 {
			data = data[:int64(len(data))-over]
		}
		err = p.give(data)
	} else {
		_, _ = p.hash.Write(data)
		if old := p.off + int64(len(p.held)) - begin; old > 0 {
			data = data[min(old, int64(len(data))):] // the reader had these before
		}
		p.held = append(p.held, data...)
		err = p.giveAllBut(HoldBack)
	}
	if err != nil {
		return true, &writeError{err}
	}
	return p.end >= 0 && p.pos >= p.end, nil
}

// giveAllBut gives the reader what is held, but for the last n bytes.
func (p *passthrough) giveAllBut(n int) error {
	free := len(p.held) - n
	if free <= 0 {
		return nil
	}
	err := p.give(p.held[:free])
	p.held = append(p.held[:0], p.held[free:]...)
	return err
}

// give writes data to the reader.
func (p *passthrough) give(data []byte) error {
	n, err := p.w.Write(data)
	p.off += int64(n)
	p.sent += int64(n)
	return err
}

// judgeConnection says whether all has come. If the size is unknown, a clean end
// is the end; the digest shows whether it was.
func (p *passthrough) judgeConnection(upstream.Body, int64, int64) error {
	end := p.end
	if end < 0 {
		end = p.size
	}
	if end >= 0 && p.pos < end {
		return errEnd
	}
	p.done = true
	return nil
}

// backOff decides about another connection.
func (p *passthrough) backOff(err error, taken, off int64) (time.Duration, error) {
	pause, again := p.tries.next(err, taken, off)
	if !again {
		return 0, err
	}
	return pause, nil
}

// finish verifies the whole blob and gives the reader the bytes that were held.
func (p *passthrough) finish() error {
	if p.hash == nil {
		return nil
	}
	if err := p.remote.checkDigest(p.hash.Sum(nil)); err != nil {
		return err
	}
	return p.give(p.held)
}

// buffer gathers a small blob, or the end of a large one.
type buffer []byte

func (b *buffer) Write(data []byte) (int, error) {
	*b = append(*b, data...)
	return len(data), nil
}

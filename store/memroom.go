package store

import (
	"fmt"
	"math"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memEntry is how many bytes content, a link, a tag or a record counts beside its own.
const memEntry = 512

// grow accounts for n more bytes. m.mu is held.
func (m *Mem) grow(n int64) error {
	limit := m.limit()
	if n > 0 && n > limit-m.used {
		if err := m.drop(n, limit); err != nil {
			return err
		}
	}
	m.used += n
	return nil
}

// limit is MaxBytes with its default.
func (m *Mem) limit() int64 {
	switch {
	case m.MaxBytes == 0:
		return 1 << 30
	case m.MaxBytes < 0:
		return math.MaxInt64
	}
	return m.MaxBytes
}

// drop drops kept spools until there is room for n bytes. If that would not be
// enough, it drops none. m.mu is held.
func (m *Mem) drop(n, limit int64) error {
	free := limit - m.used
	for _, k := range m.kept {
		free += k.data.paid
	}
	if n > free {
		return fmt.Errorf("%w: %d of %d bytes are in use, %d more are needed", ErrFull, m.used, limit, n)
	}
	for key, k := range m.kept {
		if n <= limit-m.used {
			break
		}
		m.used -= k.data.paid
		delete(m.kept, key)
	}
	return nil
}

// begin returns chunks for content that is about to be written. It counts their
// entry, and fails at once if the announced bytes have no room. m.mu is held.
func (m *Mem) begin(size int64) (*chunks, error) {
	need := min(max(size, 0), math.MaxInt64-memEntry) // a sum that cannot overflow
	if err := m.grow(memEntry + need); err != nil {
		return nil, err
	}
	m.used -= need
	return &chunks{max: size, pay: m.pay, paid: memEntry}, nil
}

// pay is grow for callers that do not hold m.mu.
func (m *Mem) pay(n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.grow(n)
}

// release gives back what chunks paid.
func (m *Mem) release(c *chunks) {
	c.seal()
	_ = m.pay(-c.paid)
}

// memCost is how many bytes a link or a tag counts: its entry and all the texts in
// it. A hostile manifest may have many short annotations, so each of them counts its
// entry in a map beside its text.
func memCost(repo string, d ocispec.Descriptor, source, text string) int64 {
	n := memEntry + len(repo) + len(source) + len(text) + len(d.MediaType) + len(d.ArtifactType) + len(d.Data)
	for key, value := range d.Annotations {
		n += 64 + len(key) + len(value)
	}
	for _, url := range d.URLs {
		n += 16 + len(url)
	}
	return int64(n)
}

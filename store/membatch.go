package store

import (
	"context"
)

// Apply implements [Batcher].
func (m *Mem) Apply(ctx context.Context, b *Batch) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Room for all of it, though some of it may replace what is there.
	need := b.memCost()
	if err := m.grow(need); err != nil {
		return err
	}
	m.used -= need
	for _, p := range b.Content {
		data := &chunks{max: int64(len(p.Bytes)), paid: memEntry}
		if _, err := data.WriteAt(p.Bytes, 0); err != nil {
			return err
		}
		data.seal()
		m.used += data.paid
		if err := m.keep(p.Repo, p.Info.Stored(data.size), data); err != nil {
			return err
		}
	}
	for i := range b.Tags {
		t := &b.Tags[i]
		var stays bool
		stays, t.Err = m.setTag(t.Repo, t.Tag, t.Value.Stored())
		if !stays {
			if err := m.changeRecords(t.Records); err != nil {
				return err
			}
		}
	}
	for _, d := range b.Deletions {
		if d.Tag != "" {
			m.removeTag(d.Repo, d.Tag, d.Digest)
		} else {
			m.unlink(d.Repo, d.Digest)
		}
	}
	return m.changeRecords(b.Records)
}

// memCost is how many bytes a batch takes at most.
func (b *Batch) memCost() (n int64) {
	for _, p := range b.Content {
		info := p.Info.Stored(0)
		n += memEntry + int64(len(p.Bytes)) + memCost(p.Repo, info.Descriptor, info.Source, string(info.Subject))
	}
	for _, t := range b.Tags {
		n += memCost(t.Repo, t.Value.Descriptor, t.Value.Source, t.Tag) + recordsCost(t.Records)
	}
	return n + recordsCost(b.Records)
}

func recordsCost(list []RecordChange) (n int64) {
	for _, r := range list {
		if r.Data != nil {
			n += memEntry + int64(len(r.Data))
		}
	}
	return n
}

// changeRecords puts and deletes records. m.mu is held.
func (m *Mem) changeRecords(list []RecordChange) error {
	for _, r := range list {
		if r.Data == nil {
			m.deleteRecord(r.Kind, r.Key)
		} else if err := m.putRecord(r.Kind, r.Key, r.Data); err != nil {
			return err
		}
	}
	return nil
}

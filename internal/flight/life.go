package flight

import "github.com/pullthrough/pullthrough/store"

// run is the life of a flight.
func (f *flight) run() {
	s := &spoolSink{f: f, hash: f.req.Digest.Algorithm().Hash()}
	err := f.download(s)
	f.dispute(err)
	f.publish(s, err)
	f.cancel(err) // ends segments and checkpoints; both are in the way of what follows
	f.stopSegments()
	s.checkpoints.Wait()
	written := func() {}
	if err == nil {
		written = f.commit(s.spool)
	} else {
		s.keep(f.spool.withdraw(), err)
	}
	f.mu.Lock()
	f.ending = true
	f.mu.Unlock()
	written() // from here on the blob may be deleted, and nobody joins to rely on it
	close(f.done)
	if err == nil {
		f.spool.release()
	} else {
		f.spool.free()
	}
}

// download fills the spool until the digest is known to match.
func (f *flight) download(s *spoolSink) error {
	claim := f.claim()
	claim.Copy, claim.Promoted = f.req.Job, f.promoted
	release, err := f.group.slots.Acquire(f.ctx, claim)
	if err != nil {
		return err
	}
	defer release()
	f.mu.Lock()
	f.begun = true
	f.mu.Unlock()
	err = s.openSpool()
	close(f.prepared) // from here on readers wait for the upstream, and for no slow disk
	if err != nil {
		return err
	}
	err = f.pull(f.ctx, &s.tries, s)
	if s.reader != nil {
		_ = s.reader.Close()
	}
	if err != nil {
		return err
	}
	return f.remote.checkDigest(s.hash.Sum(nil))
}

// publish makes the outcome of the download known. Nobody joins a failed flight.
func (f *flight) publish(s *spoolSink, err error) {
	var handover store.Progress
	if Broken(err) {
		handover, _ = s.progress(f.frontNow(), f.sizeNow()) // without it readers begin at 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ending = f.ending || err != nil
	f.end(err, handover)
}

// commit makes the bytes the store's. The readers do not wait for it. A rule
// that is gone since, or a group that closes, does not undo what was verified. written
// ends the write.
func (f *flight) commit(spool store.Spool) (written func()) {
	got := store.Info{}
	got.Digest, got.Size = f.req.Digest, f.sizeNow()
	written, err := f.write(spool, got)
	if err != nil {
		f.stored = broken(err)
		f.storeFailed(err)
	} else if f.req.Stored != nil {
		f.req.Stored(got.Size, spool.Open)
	}
	return written
}

func (f *flight) write(spool store.Spool, got store.Info) (written func(), err error) {
	written = func() {}
	if f.req.Writing != nil {
		done, err := f.req.Writing()
		if err != nil {
			return written, err
		}
		written = done
	}
	return written, spool.Commit(f.group.commits, got)
}

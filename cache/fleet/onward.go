package fleet

import (
	"errors"
	"io"
	"net/http"
)

// onward answers a replica with a blob that this one is about to get from a third one, which
// the asking one does not reach. It promises the blob when it comes: until then this replica
// may begin to follow the third one, and no cycle comes of that, since a replica that waits
// for an answer is not followed itself.
type onward struct {
	http.ResponseWriter
	h    *handler
	q    wanted
	done func() // nil before the promise
	away bool   // there is none: the asking replica was sent to another one
	sent bool   // a header
}

// errAway says that the blob comes from a replica that the asking one may ask itself.
var errAway = errors.New("fleet: the asking replica was sent to another one")

// WriteHeader implements [http.ResponseWriter].
func (o *onward) WriteHeader(status int) {
	if o.away {
		return
	}
	o.sent = true
	if o.done == nil && (status == http.StatusOK || status == http.StatusPartialContent) {
		done, holder, ok := o.h.f.roles.promise(o.q.key, o.q.asker)
		if !ok {
			o.away = true
			o.h.refuse(o.ResponseWriter, holder)
			return
		}
		o.done = done
	}
	o.ResponseWriter.WriteHeader(status)
}

// promised reports whether the body may be sent.
func (o *onward) promised() bool {
	if !o.sent {
		o.WriteHeader(http.StatusOK)
	}
	return !o.away
}

// Write implements [io.Writer].
func (o *onward) Write(p []byte) (int, error) {
	if !o.promised() {
		return 0, errAway
	}
	return o.ResponseWriter.Write(p)
}

// ReadFrom implements [io.ReaderFrom].
func (o *onward) ReadFrom(r io.Reader) (int64, error) {
	if !o.promised() {
		return 0, errAway
	}
	return io.Copy(o.ResponseWriter, r)
}

// Unwrap is for [http.ResponseController].
func (o *onward) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// end undoes the promise. It must be deferred: a replica that was sent away has its whole answer,
// so that its connection does not end with the handler of what it is not sent.
func (o *onward) end() {
	if o.done != nil {
		o.done()
	}
	if o.away {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}
}

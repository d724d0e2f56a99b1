package flight

import (
	"errors"
	"fmt"
)

var (
	// ErrDigest reports that what came does not hash to the digest. Nothing of
	// it is kept.
	ErrDigest = errors.New("flight: the content does not match its digest")
	// ErrSize reports that the upstream's content has another size than was
	// announced, by a manifest or by the upstream itself.
	ErrSize = errors.New("flight: the size is not the one that was announced")
	// ErrTooLarge reports a blob that is larger than Group.Largest.
	ErrTooLarge = errors.New("flight: the blob is too large")
	// ErrBusy reports that no slot for the download became free in time.
	ErrBusy = errors.New("flight: too many downloads")
	// ErrAbandoned reports a flight that was ended because no reader was left.
	ErrAbandoned = errors.New("flight: nobody waits for it")
	// ErrClosed reports that the group was closed.
	ErrClosed = errors.New("flight: closed")
	// ErrStored is what Request.Spool returns when the blob is in the store
	// after all, because another flight has just ended. Readers find it there.
	ErrStored = errors.New("flight: it is in the store")
)

var (
	errIdle = errors.New("flight: the upstream sends nothing")
	errSlow = errors.New("flight: the upstream sends too little")
	errEnd  = errors.New("flight: the upstream ended early")
	// errBroken reports that the store cannot keep the blob. Readers go on alone.
	errBroken = errors.New("flight: the store cannot keep it")
)

// broken adds the store's error to errBroken; errors.Is finds both.
func broken(err error) error { return fmt.Errorf("%w: %w", errBroken, err) }

// Broken reports whether err says that a download could not be kept.
func Broken(err error) bool { return errors.Is(err, errBroken) }

// goneError says that the rule no longer covers the flight.
type goneError struct{ err error }

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// writeError says that a reader's own writer failed, which another connection
// to the upstream does not mend.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

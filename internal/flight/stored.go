package flight

import "errors"

// ErrStored is what Request.Spool returns when the blob is in the store after
// all: another flight has just ended. The readers find it there.
var ErrStored = errors.New("flight: it is in the store")

// Broken reports whether err says that a download could not be kept.
func Broken(err error) bool { return errors.Is(err, errBroken) }

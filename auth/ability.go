package auth

// Unwrapper is implemented by an [Authenticator] that wraps another one, so that [As]
// finds the optional abilities of the inner one. An ability of the wrapper hides that of
// the inner one.
//
// The methods of an inner [Invalidator], [Renewer] or [Observer] are called with the
// credential that the wrapper returned. A wrapper that changes the credential of the
// inner one should therefore have these abilities itself, and call those of the inner
// one with the credential that it returned.
type Unwrapper interface{ Unwrap() Authenticator }

// As finds an optional ability of a, looking through Unwrap: [Invalidator], [Renewer],
// [Observer], [Checker], or any other type. The outermost Authenticator that has it
// wins. [Renewer] and [Invalidator] are two forms of one ability, so an Authenticator
// that has one of them hides the other one below it.
//
// All packages of this module look for abilities with As. An Authenticator that wraps
// another one without an Unwrap has only its own abilities. As should not be used to
// find out what an Authenticator is, such as [Anonymous], since a wrapper may return
// another credential.
func As[T any](a Authenticator) (T, bool) {
	for a != nil {
		if t, ok := a.(T); ok {
			return t, true
		}
		u, ok := a.(Unwrapper)
		if !ok || hidesInner[T](a) {
			break
		}
		a = u.Unwrap()
	}
	var none T
	return none, false
}

// hidesInner reports whether a, which does not have the ability T, has the other form
// of it.
func hidesInner[T any](a Authenticator) (hides bool) {
	switch any((*T)(nil)).(type) {
	case *Renewer:
		_, hides = a.(Invalidator)
	case *Invalidator:
		_, hides = a.(Renewer)
	}
	return hides
}

// SecretUnwrapper is implemented by a [Secret] that wraps another one, so that
// [SecretAs] finds the optional abilities of the inner one.
type SecretUnwrapper interface{ Unwrap() Secret }

// SecretAs finds an optional ability of s, looking through Unwrap: [SecretInvalidator],
// [SecretObserver], or any other type. The outermost Secret that has it wins.
func SecretAs[T any](s Secret) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(SecretUnwrapper)
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var none T
	return none, false
}

package upstream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
)

var classes = []upstream.Class{upstream.Protocol, upstream.Limited, upstream.Denied, upstream.NotFound, upstream.Unreachable}

func TestClassesAreErrors(t *testing.T) {
	because := errors.New("because")
	for _, class := range classes {
		err := fmt.Errorf("wrapped: %w", &upstream.Error{Class: class, Err: because})
		for _, other := range classes {
			if errors.Is(err, other) != (other == class) {
				t.Errorf("errors.Is(%v, %v) is %v", err, other, other != class)
			}
		}
		if got, ok := upstream.ClassOf(err); !ok || got != class || !errors.Is(err, because) || !strings.Contains(err.Error(), class.Error()) {
			t.Errorf("%v: class %q, %v", err, got, ok)
		}
	}
}

// An error without a class has none, not even a class of its own.
func TestErrorsWithoutAClass(t *testing.T) {
	for _, err := range []error{&upstream.Error{}, errors.New("x"), nil, upstream.ErrIncomplete} {
		if class, ok := upstream.ClassOf(err); ok || class != "" {
			t.Errorf("%v: class %q", err, class)
		}
		for _, class := range append(classes, "") {
			if errors.Is(err, class) {
				t.Errorf("%v is %q", err, class)
			}
		}
	}
}

// An error tells the class of the request that failed, and not that of its cause.
func TestClassOfTheOutermostError(t *testing.T) {
	err := &upstream.Error{Class: upstream.Unreachable, Err: &upstream.Error{Class: upstream.Denied}}
	if class, ok := upstream.ClassOf(err); !ok || class != upstream.Unreachable {
		t.Errorf("class %q, %v", class, ok)
	}
}

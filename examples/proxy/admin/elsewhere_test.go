package admin_test

import (
	"context"
	"testing"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
)

// parks is another replica, which takes every copy and parks it.
type parks struct{}

func (parks) Submit(context.Context, cache.Job) error         { return nil }
func (parks) Give(context.Context, cache.Job) (string, error) { return "theirs", nil }

func (parks) Track(context.Context, cache.Job) (cache.JobStatus, error) {
	return cache.JobStatus{State: cache.JobParked, ID: "theirs"}, nil
}

// TestCopiesElsewhereOverHTTP: of a copy that another replica was given, the API says what that
// one does.
func TestCopiesElsewhereOverHTTP(t *testing.T) {
	k := newKit(t, open())
	k.cache.Copier = parks{}
	k.image("app", "v1", 1000)
	if _, _, err := k.cache.Manifest(t.Context(), "local/app", "v1"); err != nil {
		t.Fatal(err)
	}
	k.until("the other replica to be asked", func() bool {
		list := ask[admin.CopyList](k, "GET", "copies?state=submitted", "").Copies
		return len(list) == 1 && list[0].Elsewhere == "parked"
	})
}

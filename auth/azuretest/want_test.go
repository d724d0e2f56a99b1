package azuretest_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullthrough/pullthrough/auth/azuretest"
)

func TestWantCalls(t *testing.T) {
	az := azuretest.New(nil)
	defer az.Close()
	az.NewRegistry("dev")
	resp, err := az.Direct().Get("https://dev.azurecr.io/v2/app/manifests/v1?secret=x")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	const get = "GET dev.azurecr.io/v2/app/manifests/v1"
	if !az.WantCalls(get) || len(az.Complaints()) != 0 {
		t.Errorf("%q", az.Complaints())
	}
	if az.WantCalls() {
		t.Error("an unwanted call is no complaint")
	}
	if text := strings.Join(az.Complaints(), "; "); !strings.HasSuffix(text, "\n\t+ "+get) || strings.Contains(text, "secret") {
		t.Errorf("%q", text)
	}
}

func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		az := azuretest.New(t)
		az.NewRegistry("dev")
		az.Fail(azuretest.V2, azuretest.Fault{Hang: true, Status: http.StatusTooManyRequests, Times: 1})
		az.Fail(azuretest.V2, azuretest.Fault{Hang: true})
		for _, want := range []int{http.StatusTooManyRequests, http.StatusUnauthorized} {
			start := time.Now()
			go func() {
				time.Sleep(time.Minute)
				az.Release()
			}()
			resp, err := az.Direct().Get("https://dev.azurecr.io/v2/")
			if err != nil || resp.StatusCode != want || time.Since(start) != time.Minute {
				t.Errorf("%v, %v after %v; want %d", resp, err, time.Since(start), want)
			}
		}
	})
}

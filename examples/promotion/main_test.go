package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

func TestTheStoryIsTrue(t *testing.T) {
	t.Setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token") // as in App Service
	t.Setenv("IDENTITY_HEADER", "x")
	t.Setenv("MSI_ENDPOINT", "http://127.0.0.1:1/msi") // as in Cloud Shell
	leaveAzure()
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v after\n%s", err, out.String())
	}
	rest := out.String()
	for _, want := range []string{
		`1\. .*`, `devregistry\.azurecr\.io/team-a/api:1\.4\.0 for linux/amd64 and linux/arm64`, `cost +nothing`,
		`2\. .*`, `userAssignedIdentities/promote'\s+does\s+not\s+exist\s+or\s+is\s+not\s+associated\s+with\s+this\s+registry`, `cost +nothing`,
		`3\. .*`, `"userAssignedIdentities": \{\s+"\.\.\./userAssignedIdentities/promote": \{\}`,
		`"sourceRepository": "devregistry\.azurecr\.io/team-a/api"`, `"targetRepository": "promoted/team-a/api"`, `"provisioningState": "Succeeded"`, `cost +nothing`,
		`4\. .*`, `index .* fwd=miss; fwd-status=200 +X-Azure-Origin: upstream\n`, `manifest .* fwd=miss; fwd-status=200 +X-Azure-Origin: upstream\n`,
		`layer +2\.0 MiB .* +X-Azure-Origin: upstream\n`, `had sent [01]\.\d MiB of 2\.0 MiB`,
		`(event +push +promoted/team-a/api.*\s+){3}cost +IMDS 1, exchange 1, token 1, 401 x 1; HEAD 0, manifests 2, blobs 4, 4\.0 MiB`,
		`5\. .*\s+client +index .* fwd=request; fwd-status=200; detail=unchanged\n`, `5 of 6 answers from the store\s+cost +IMDS 0, exchange 0, token 0, 401 x 0; HEAD 1, manifests 0, blobs 0, 0 B`,
		`6\. .*`, `(event +push +promoted/team-a/api.*\s+){3}cost +IMDS 0, exchange 0, token 0, 401 x 0; HEAD 1, manifests 2, blobs 2, 1\.0 MiB`,
		`7\. .*`, `userAssignedIdentities/promote-2\s+client +index .* detail=unchanged\n`,
		`5 of 6 answers from the store\s+cost +IMDS 1, exchange 1, token 1, 401 x 1; HEAD 1, manifests 0, blobs 0, 0 B`,
		`promote is deleted.*\s+client +index .* detail=unchanged\n`,
		`event +push +promoted/team-a/api +manifest.*\s+cost +IMDS 0, exchange 0, token 0, 401 x 0; HEAD 1, manifests 1, blobs 3, 2\.0 MiB`,
		`8\. .*`, `403 DENIED: `, `Container\s+Registry\s+Repository\s+Reader'`, `Container\s+Registry\s+Repository\s+Catalog\s+Lister'`, `'AcrPull'`,
		`cost +IMDS 0, exchange 1, token 2, 401 x 4; HEAD 0, manifests 0, blobs 0, 0 B`,
		`403 DENIED: `, `userAssignedIdentities/promote-2'\s+does\s+not\s+exist\s+or\s+is\s+not\s+associated\s+with\s+this\s+registry`,
		`index .* fwd=stale; detail=denied\n`, `5 of 6 answers from the store\s+cost +nothing`,
		`9\. .*`, `4 x access token, 2 x entra token, 9 x link, 3 x refresh token\s+0 of them`, `0 complaints .*, 0 requests for hosts`, `cost +nothing`,
		`All figures were counted, and are what they should be\.\n$`,
	} {
		at := regexp.MustCompile(want).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("nothing like %q where it should be in\n%s", want, out.String())
		}
		rest = rest[at[1]:]
	}
	// The events of a copy have no order, so each line is looked for by itself.
	for _, event := range []string{`/api:1\.4\.0 +index +sha256:`, `/api +index +sha256:`, `/api +manifest +sha256:`} {
		if n := len(regexp.MustCompile(`event +push +promoted/team-a`+event).FindAllString(out.String(), -1)); n < 2 {
			t.Errorf("%d events like %s", n, event)
		}
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > width+1 || strings.Contains(line, "/subscriptions/") {
			t.Errorf("not for people: %s", line)
		}
	}
}

// TestAStoryThatIsNotTrue: a step with which a test meddles fails, for the right reason.
func TestAStoryThatIsNotTrue(t *testing.T) {
	pull := func(s *story) { _, _ = s.client.Pull(context.Background(), local, tag, "amd64", nil) }
	get := func(s *story, url string) {
		if resp, err := s.azure.Client().Get(url); err == nil {
			_ = resp.Body.Close()
		}
	}
	for what, row := range map[string]struct {
		step   int
		meddle func(*story)
		says   string
	}{
		"asked already":    {1, func(s *story) { get(s, "https://devregistry.azurecr.io/v2/") }, "the cost is IMDS 0, exchange 0, token 0, 401 x 1; HEAD 0"},
		"assigned already": {2, func(s *story) { _ = s.identities.Assign(s.promote.ResourceID) }, "the rule was created"},
		"created already": {3, func(s *story) {
			_ = s.identities.Assign(s.promote.ResourceID)
			_ = s.create(s.resource())
		}, "CacheRuleAlreadyExists"},
		"no image":        {4, func(s *story) { s.dev.Content.Untag(source, tag) }, "404 MANIFEST_UNKNOWN"},
		"no layer":        {4, func(s *story) { s.dev.Content.Delete(source, s.image.Children[0].Layers[1].Digest) }, "404 BLOB_UNKNOWN"},
		"a flipped bit":   {4, func(s *story) { s.dev.Content.Fail(upstreamtest.Fault{Kind: "manifest", Flip: true}) }, "502"},
		"no role":         {4, func(s *story) { s.dev.Revoke(s.promote.PrincipalID) }, "403 DENIED"},
		"stored already":  {4, pull, "before the client had any"},
		"an extra pull":   {5, pull, "HEAD 2, manifests 0, blobs 0, 0 B; the story says"},
		"an unknown call": {5, func(s *story) { get(s, "https://login.microsoftonline.com/"+s.azure.TenantID()+"/v2.0/x") }, "is not in the story"},
		"an extra event":  {5, func(s *story) { s.events <- webhook.Event{ID: "x"} }, "more events than the story says"},
		"moved already":   {5, func(s *story) { s.publish(3) }, "the tag's Cache-Status"},
		"a false event": {6, func(s *story) {
			s.events <- webhook.Event{Action: webhook.ActionPush, Target: target("2.0", s.image.Descriptor)}
		}, "is not in the story"},
		"a dead source":    {5, func(s *story) { s.dev.Content.Fail(upstreamtest.Fault{Status: http.StatusServiceUnavailable}) }, "was answered with 503"},
		"no rule":          {7, func(s *story) { _ = s.rules.Delete(name) }, "CacheRuleNotFound"},
		"a former secret":  {8, func(s *story) { s.former = s.azure.Secrets() }, "devregistry.azurecr.io was shown a former entra token"},
		"too many rights":  {8, func(s *story) { s.dev.Grant(s.promote2.PrincipalID, otherSource) }, "was not refused"},
		"a printed secret": {9, func(s *story) { s.line("oops", "%s", s.azure.Secrets()[0].Text) }, `secrets could be read: ["entra token"]`},
		"a logged secret":  {9, func(s *story) { s.prod.Logger.Info("oops", "token", s.azure.Secrets()[1].Text) }, `secrets could be read: ["refresh token"]`},
		"a complaint":      {9, func(s *story) { get(s, "http://169.254.169.254/metadata") }, "complaints: [\"azuretest: IMDS wants"},
		"an unknown host":  {9, func(s *story) { get(s, "https://elsewhere.azurecr.io/v2/") }, "hosts that do not exist: [\"elsewhere.azurecr.io"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := perform(t.Context(), &out, func(step int, s *story) {
				if step == row.step {
					row.meddle(s)
				}
			})
			if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("step %d: ", row.step)) || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, want step %d: %s, after\n%s", err, row.step, row.says, out.String())
			}
		})
	}
}

// TestInterrupted: the story ends at once when it is interrupted, even during a pull, and
// nothing goes on in the background.
func TestInterrupted(t *testing.T) {
	for _, step := range []int{1, 4, 8} {
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		err := perform(ctx, io.Discard, func(at int, s *story) {
			switch {
			case at == step && at == 4:
				go func() {
					for s.dev.Content.BlobBytes("") == 0 {
						time.Sleep(time.Millisecond)
					}
					cancel()
				}()
			case at == step:
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("step %d: %v", step, err)
		}
		for runtime.NumGoroutine() > before && time.Since(begun) < patience {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begun); took > patience/2 {
			t.Errorf("step %d: it took %v, and of %d goroutines there are %d", step, took, before, runtime.NumGoroutine())
		}
	}
}

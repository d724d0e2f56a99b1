package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// The repository for which the identity has no role.
const (
	otherSource = "team-b/web"
	otherLocal  = "promoted/team-b/web"
	otherName   = "promote-team-b-web"
)

// swap gives the rule another identity. The next pull uses it, and the former one can be
// deleted.
func (s *story) swap(ctx context.Context) error {
	s.promote2 = s.azure.NewIdentity("promote-2")
	s.dev.Grant(s.promote2.PrincipalID, source)
	if err := s.identities.Assign(s.promote2.ResourceID); err != nil {
		return err
	}
	uami, err := s.identities.UserAssigned(s.promote2.ResourceID)
	if err != nil {
		return err
	}
	s.former = s.azure.Secrets() // none of these may be sent from now on
	if err := s.rules.SetAuth(name, uami); err != nil {
		return err
	}
	s.line("az", "acr cache update -r prodregistry -n %s --identity %s", name, s.promote2.ResourceID)
	err = errors.Join(
		s.stored(ctx, "fwd=request; fwd-status=200; detail=unchanged"),
		s.spent(ctx, cost{imds: 1, exchanges: 1, tokens: 1, unauthorized: 1, heads: 1}),
	)
	if err != nil {
		return err
	}
	s.promote.Detach()
	s.promote.RevokeTokens()
	s.dev.Revoke(s.promote.PrincipalID)
	s.line("identity", "promote is deleted, its tokens are revoked, its role at the source is gone")
	if _, err := s.pull(ctx, "arm64", nil); err != nil {
		return err
	}
	img := s.image.Children[1]
	return errors.Join(
		s.pushes(ctx, target("", img.Descriptor)),
		s.spent(ctx, cost{heads: 1, manifests: 1, blobs: 3, bytes: blobSize(img) - img.Layers[0].Size}),
	)
}

// refusals shows two refusals: of an identity without a role at the source, and of one that
// was removed from this registry. Both errors say what is wrong. Stored images are still
// served.
func (s *story) refusals(ctx context.Context) error {
	s.dev.Content.AddMultiPlatform(otherSource, tag, upstreamtest.Layers(2, 1<<10), "amd64", "arm64")
	err := s.create(rule.Resource{Name: otherName, SourceRepository: s.dev.LoginServer() + "/" + otherSource,
		TargetRepository: otherLocal, IdentityID: s.promote2.ResourceID})
	if err != nil {
		return err
	}
	s.line("rule", "%s, with the same identity, for a repository where it has no role", otherName)
	err = errors.Join(
		s.refused(ctx, otherLocal, tag, "Container Registry Repository Reader", "Container Registry Repository Catalog Lister",
			"AcrPull", "identity '"+strings.ToLower(s.promote2.ResourceID)+"'", s.dev.LoginServer(), otherSource),
		// The two rules share the Entra token of the identity, but not the refresh
		// token for which the registry exchanged it.
		s.spent(ctx, cost{exchanges: 1, tokens: 2, unauthorized: 4}),
	)
	if err != nil {
		return err
	}
	if err := s.identities.Unassign(s.promote2.ResourceID); err != nil {
		return err
	}
	s.dev.Content.Tag(source, "1.5.0", s.image.Digest)
	s.line("az", "acr identity remove -n prodregistry --identities %s", s.promote2.ResourceID)
	s.line("source", "1.5.0 is pushed")
	return errors.Join(
		s.refused(ctx, local, "1.5.0", "does not exist or is not associated with this registry", "identity '"+strings.ToLower(s.promote2.ResourceID)+"'"),
		s.stored(ctx, "fwd=stale; detail=denied"),
		s.spent(ctx, cost{}),
	)
}

// refused pulls an image, for which the response must be 403 with these words.
func (s *story) refused(ctx context.Context, repository, tag string, words ...string) error {
	_, err := s.client.Pull(ctx, repository, tag, "amd64", nil)
	if err == nil {
		return fmt.Errorf("%s:%s was not refused", repository, tag)
	}
	r, ok := errors.AsType[*puller.Refusal](err)
	if !ok {
		return err
	}
	s.line("client", "pulls %s:%s", repository, tag)
	s.line("", "%v", r)
	for _, w := range words {
		ok = ok && strings.Contains(r.Message, w)
	}
	return check(ok && r.Status == http.StatusForbidden && r.Code == "DENIED", "the refusal does not say all of %q", words)
}

// secrets checks that the whole story revealed no secret.
func (s *story) secrets(ctx context.Context) error {
	err := s.noSecrets()
	complaints, refused := s.azure.Complaints(), s.azure.Refused()
	s.line("azure", "%d complaints about calls, %d requests for hosts that do not exist", len(complaints), len(refused))
	return errors.Join(err,
		check(len(complaints) == 0, "complaints: %q", complaints),
		check(len(refused) == 0, "hosts that do not exist: %q", refused),
		s.spent(ctx, cost{}),
	)
}

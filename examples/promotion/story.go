package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/examples/internal/puller"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// The image that is promoted, from where, and to where.
const (
	source = "team-a/api"
	local  = "promoted/team-a/api"
	tag    = "1.4.0"
	name   = "promote-team-a-api" // of the rule
)

// story prints what happens, and compares it with what should happen.
type story struct {
	*stage
	*printer
	client *puller.Client
	seen   *witness
	meddle func(step int, s *story) // called before each step; may be nil

	promote, promote2 *azuretest.Identity
	image             upstreamtest.Image // to which the tag points at the source
	former            []azuretest.Secret // that must not be sent any more
}

// tell runs the steps of the story up to the first that fails.
func (s *story) tell(ctx context.Context) error {
	steps := []struct {
		title string
		tell  func(context.Context) error
	}{
		{"The setting: an image, an identity, and a role that it has at the source", s.setting},
		{"A rule with an identity that this registry does not have", s.notAssigned},
		{"The identity is assigned, and the rule is created", s.createRule},
		{"The gate pulls once: the image streams through, and is copied behind it", s.firstPull},
		{"Every later pull: one HEAD to the source, no copy, no event", s.secondPull},
		{"The tag is pushed again at the source", s.pushedAgain},
		{"The rule gets another identity", s.swap},
		{"Refusals", s.refusals},
		{"No secret was revealed", s.secrets},
	}
	s.line("", "From a development registry to a production registry, by one cache rule.")
	s.line("", "Cost counts requests: to Azure, for tokens; then to the source, for content.")
	for i, step := range steps {
		s.title(i+1, step.title)
		if s.meddle != nil {
			s.meddle(i+1, s)
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		err := step.tell(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	_, _ = fmt.Fprintln(s.out)
	s.line("", "All figures were counted, and are what they should be.")
	return nil
}

// publish pushes a version of the image to the source: three layers for each of
// two platforms, of which only the last differs between versions.
func (s *story) publish(version int) {
	layers := [][]byte{upstreamtest.Bytes(1, 2<<20), upstreamtest.Bytes(2, 1<<20), upstreamtest.Bytes(3, 1<<20+version)}
	s.image = s.dev.Content.AddMultiPlatform(source, tag, layers, "amd64", "arm64")
}

// setting makes the image, the identity and its role.
func (s *story) setting(ctx context.Context) error {
	s.publish(1)
	s.promote = s.azure.NewIdentity("promote")
	s.dev.Grant(s.promote.PrincipalID, source)
	s.line("source", "%s/%s:%s for linux/amd64 and linux/arm64", s.dev.LoginServer(), source, tag)
	s.line("identity", "%s, shown without its subscription from here on", s.promote.ResourceID)
	s.line("az", "role assignment create --assignee %s --role 'Container Registry Repository Reader' --scope .../registries/devregistry", s.promote.PrincipalID)
	s.line("role", "may read %s at the source, and nothing else", source)
	s.line("prod", "prodregistry.azurecr.io, which is a cache at %s", s.server.URL)
	return s.spent(ctx, cost{})
}

// resource is the rule in ACR's resource model.
func (s *story) resource() rule.Resource {
	return rule.Resource{Name: name, SourceRepository: s.dev.LoginServer() + "/" + source, TargetRepository: local,
		IdentityID: s.promote.ResourceID}
}

// notAssigned shows that the rule cannot be created: the identity may read the source, but
// it is not assigned to this registry.
func (s *story) notAssigned(ctx context.Context) error {
	s.line("az", "acr cache create -r prodregistry -n %s --source-repo %s/%s --target-repo %s --identity %s",
		name, s.dev.LoginServer(), source, local, s.promote.ResourceID)
	err := s.create(s.resource())
	if err == nil {
		return errors.New("the rule was created")
	}
	s.line("error", "%v", err)
	return errors.Join(
		check(errors.Is(err, azure.ErrNotAssigned), "%w is not azure.ErrNotAssigned", err),
		check(strings.Contains(err.Error(), "does not exist or is not associated with this registry"), "the error has other words"),
		s.spent(ctx, cost{}),
	)
}

// createRule assigns the identity and creates the rule. Neither sends a request.
func (s *story) createRule(ctx context.Context) error {
	s.line("az", "acr identity assign -n prodregistry --identities %s", s.promote.ResourceID)
	if err := s.identities.Assign(s.promote.ResourceID); err != nil {
		return err
	}
	s.line("assigned", "%s", strings.Join(s.identities.List(), ", "))
	if err := s.create(s.resource()); err != nil {
		return err
	}
	made, ok := s.rules.Get(name)
	if !ok {
		return errors.New("the rule was not created")
	}
	resource, err := rule.NewResource(made, resolver{s.identities})
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(resource, "", "  ")
	if err != nil {
		return err
	}
	s.line("rule", "created; in the JSON of ACR's resource model it is")
	s.text(string(text))
	return errors.Join(s.spent(ctx, cost{}), check(resource.ProvisioningState == rule.Succeeded, "the rule is not in force"))
}

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"time"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/auth/azuretest"
	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/rule"
	"github.com/pullthrough/pullthrough/upstream"
	"github.com/pullthrough/pullthrough/webhook"
)

// patience is how long a step of the story may take, on a busy machine too.
const patience = 2 * time.Minute

// stage is Azure with the development registry in it, and the production registry, which is
// a cache.
type stage struct {
	azure      *azuretest.Azure
	dev        *azuretest.Registry
	identities *azure.Identities // that are assigned to the production registry
	rules      *rule.Set
	up         *upstream.Client
	prod       *cache.Cache
	server     *httptest.Server // of prod
	events     chan webhook.Event
}

// newStage builds everything as a program that runs in Azure does, except that the clients
// and the transport are those of the fakes. The cache writes its log to log.
func newStage(az *azuretest.Azure, log io.Writer) (*stage, error) {
	identities, err := azure.NewIdentities(azure.Options{
		TenantID: az.TenantID(), Client: az.Client(), ManagedIdentity: az.ManagedIdentityClient(),
	})
	if err != nil {
		return nil, err
	}
	rules, err := rule.Options{Strict: true}.NewSet() // it refuses what ACR refuses
	if err != nil {
		return nil, err
	}
	s := &stage{azure: az, dev: az.NewRegistry("devregistry"), identities: identities, rules: rules,
		up: &upstream.Client{Transport: az.Transport()}, events: make(chan webhook.Event, 16)}
	s.prod = &cache.Cache{
		Rules:    rules,
		Upstream: s.up,
		Events:   webhook.SinkFunc(s.send),
		Logger:   slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		// On a busy machine the figures must be right too: a tag check or a download may be
		// slow, and is not given up, nor asked for over a second connection.
		Limits: cache.Limits{StaleTimeout: patience, AnswerTimeout: patience, IdleTimeout: patience, Segments: 1, LeastRate: -1},
	}
	s.server = httptest.NewServer(s.prod)
	return s, nil
}

// send is the production registry's webhook.
func (s *stage) send(ctx context.Context, ev webhook.Event) error {
	select {
	case s.events <- ev:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the server, and then what it uses.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.server.Close()
	err := s.prod.Shutdown(ctx)
	s.up.CloseIdleConnections()
	return err
}

// create makes a rule from ACR's resource model, as `az acr cache create` does.
func (s *stage) create(r rule.Resource) error {
	created, err := r.Rule("", resolver{s.identities})
	if err != nil {
		return err
	}
	return s.rules.Create(created)
}

// resolver finds authenticators by the ids of ACR's resource model.
type resolver struct{ identities *azure.Identities }

// Identity finds an identity that is assigned.
func (r resolver) Identity(id string) (auth.Authenticator, error) {
	uami, err := r.identities.UserAssigned(id)
	if err != nil {
		return nil, err
	}
	return uami, nil
}

// CredentialSet finds none: this registry has no secrets.
func (resolver) CredentialSet(string) (auth.Authenticator, error) {
	return nil, errors.New("there are no credential sets here")
}

// Reference returns the id of an identity.
func (resolver) Reference(a auth.Authenticator) (rule.Reference, error) {
	uami, ok := a.(*azure.UserAssigned)
	if !ok {
		return rule.Reference{}, errors.New("there are only managed identities here")
	}
	return rule.Reference{IdentityID: uami.ResourceID()}, nil
}

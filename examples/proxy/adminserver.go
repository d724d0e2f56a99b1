package main

import (
	"context"

	"github.com/pullthrough/pullthrough/cache"
	"github.com/pullthrough/pullthrough/examples/proxy/admin"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/webhook"
)

// newAdmin returns the handler of the admin listener. Its streams end with ctx.
func (l *live) newAdmin(ctx context.Context, c *cache.Cache, in store.Store, outbox *webhook.Outbox) *admin.Server {
	s := l.current
	return &admin.Server{
		API: &admin.API{
			Cache:  c,
			Store:  in,
			Rules:  s.rules,
			Outbox: outbox,
			Ending: ctx.Done(),
			Logger: l.log,
		},
		Access: admin.Access{OpenReading: !exposed(s.admin)},
		Logger: l.log,
	}
}

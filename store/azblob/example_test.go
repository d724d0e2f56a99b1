package azblob_test

import (
	"context"
	"log"

	"github.com/pullthrough/pullthrough/store/azblob"
)

// A replica that opens the container with the managed identity of its machine.
func Example() {
	identity, err := azblob.ManagedIdentity("6f1c6e1e-9a37-4c5e-8d2a-3f0b7a1c2d4e", nil)
	if err != nil {
		log.Fatal(err)
	}
	client, err := azblob.NewClient(azblob.ClientOptions{URL: "https://account.blob.core.windows.net/images", Credential: identity})
	if err != nil {
		log.Fatal(err)
	}
	st, err := azblob.New(azblob.Options{Client: client, Prefix: "cache", Replica: "replica-0"})
	if err != nil {
		log.Fatal(err)
	}
	if err := st.Check(context.Background()); err != nil {
		log.Print("the store does not work yet: ", err)
	}
	// cache.Cache{Store: st, ...}
}

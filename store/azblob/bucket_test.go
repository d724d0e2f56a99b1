package azblob

import (
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
)

func TestBucketOnTheFake(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) objectstore.Bucket { return newFake(t).bucket() })
}

// Azurite takes a blob that has nothing but uncommitted blocks for one that is there when a
// Put depends on its absence. Azure does not.
func TestBucketOnAzurite(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) objectstore.Bucket {
		return newBucket(azuriteContainer(t))
	}, buckettest.CompleteBesidePut)
}

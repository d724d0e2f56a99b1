package buckettest_test

import (
	"testing"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
)

func TestMem(t *testing.T) {
	buckettest.Run(t, func(*testing.T) objectstore.Bucket { return new(buckettest.Mem) })
}

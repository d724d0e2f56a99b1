package servertest_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/internal/objectstore/buckettest"
	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/s3/internal/bucket"
	"github.com/pullthrough/pullthrough/store/storetest"
)

func credentialsOf() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, nil
	})
}

// servers returns every server that there is.
func servers(t *testing.T) []server {
	all := []server{fake(t)}
	t.Run("with versitygw", func(t *testing.T) { real(t) }) // skipped if there is none
	if gateway.err == nil {
		all = append(all, real(t))
	}
	return all
}

func TestStoreOnGofakes3(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { s := fake(t); return s.store(t, s.endpoint, "a") })
}

func TestStoreOnVersitygw(t *testing.T) {
	real(t)
	storetest.Run(t, func(t *testing.T) store.Store { s := real(t); return s.store(t, s.endpoint, "a") })
}

func (s server) open(t testing.TB) objectstore.Bucket {
	return &bucket.Bucket{Client: client(t, s.endpoint), Name: s.bucket}
}

func TestBucketOnGofakes3(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) objectstore.Bucket { return fake(t).open(t) },
		buckettest.CompleteConditions, buckettest.CompleteRace, buckettest.CompleteBesidePut)
}

func TestBucketOnVersitygw(t *testing.T) {
	real(t)
	buckettest.Run(t, func(t *testing.T) objectstore.Bucket { return real(t).open(t) })
}

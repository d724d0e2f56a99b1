// Package objectstore keeps what a cache copied in a bucket of an object store, which many
// replicas share. It is what store/s3 and store/azblob have in common: they are adapters of
// [Bucket].
package objectstore

// Package s3 keeps what a cache copied in a bucket of Amazon S3, or of a server that speaks
// its protocol. Any number of replicas may share one bucket and prefix.
//
//	client, err := s3.NewClient(s3.ClientOptions{
//		Endpoint:    "https://storage.example.com", // if empty, AWS
//		Region:      "eu-central-1",
//		Credentials: credentials,
//	})
//	...
//	st, err := s3.New(s3.Options{Client: client, Bucket: "images", Prefix: "cache", Replica: host})
//	...
//	err = st.Check(ctx)
//
// Credentials are those of the program. The module requires no more of AWS than the client of
// S3; a program that wants the environment, shared files, IMDS or web identity takes package
// github.com/aws/aws-sdk-go-v2/config, whose Config has the Credentials and the Region:
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	...
//	client, err := s3.NewClient(s3.ClientOptions{Region: cfg.Region, Credentials: cfg.Credentials})
//
// # What the server must do
//
// PutObject must honour If-None-Match: * and If-Match, and whatever was written must be seen
// by every later read; [Store.Check] tries the former. CompleteMultipartUpload is called with
// If-None-Match: *, and a server that ignores it does no harm, since the bytes of one digest
// are the same. Deletions have no condition. Lists must be in the order of bytes, which those
// of directory buckets (S3 Express One Zone) are not. An ETag and the bytes that come with it
// must belong together: in those of versitygw they do, but not if it runs with --sidecar, where
// an ETag may be ahead of its bytes and a tag may then move backwards.
//
// # Layout
//
// Everything is an object below the prefix and the version of the layout.
//
//	v1/blobs/ALG/HEX                     the bytes of all content, immutable
//	v1/origins/ALG/HEX/HASH              they came from the origin whose hash that is
//	v1/layers/NAME!/ALG-HEX              a link: content of a repository that is no manifest
//	v1/images/NAME!/manifests/ALG-HEX    a link of a manifest
//	v1/images/NAME!/tags/TAG             where a tag points
//	v1/referrers/NAME!/ALG-HEX/ALG-HEX   a manifest that once had that subject
//	v1/records/REPLICA/KIND/KEY          a record of one replica
//	v1/check/RANDOM                      what [Store.Check] tries
//
// Content of up to 8 MiB is written by one PutObject, larger content by a multipart upload
// that is completed after its digest has matched. Until then nothing of it can be seen. Each
// Writer holds 8 MiB.
//
// # Permissions
//
//	on the bucket            s3:ListBucket, s3:ListBucketMultipartUploads
//	on PREFIX/v1/*           s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload
//
// Without s3:ListBucket, S3 answers 403 instead of 404 for an object that is not there, and
// the store takes that for a failure.
//
// # What is not freed
//
// Delete takes away links and tags. The bytes stay, since another replica may be about to
// link them; so a bucket grows by what was ever copied. No lifecycle rule may expire objects
// of the store, with one exception: a process that dies during an upload leaves its parts,
// which nobody sees and which cost money. A rule of the bucket removes them, such as
//
//	{"Rules": [{
//		"ID": "unfinished", "Status": "Enabled", "Filter": {"Prefix": "cache/"},
//		"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}
//	}]}
//
// and where there is no such rule, [Store.Sweep] does, for instance once a day.
//
// # Clocks
//
// Which of two answers about a tag is the newer one is decided by the clocks of the replicas
// that asked: a clock that is a minute ahead keeps a tag for a minute from what the others
// find. Replicas need NTP. Nothing else depends on a clock, but for the age of uploads that
// Sweep drops.
//
// # Limits
//
// Content has 80,000 MiB at most; more is [store.ErrFull], and so is a bucket that is over
// its quota. A key has 1,024 bytes, so the names of repositories have about 600 at most.
// There is no [store.Spooler]: a download lies in a temporary file of the process until it is
// whole, or in the near store of a tier.
package s3

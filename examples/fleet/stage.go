package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/pullthrough/pullthrough/store/s3"
	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
	"github.com/pullthrough/pullthrough/webhook"
)

// pace is how many bytes per second the registry sends in all.
const pace = 16 << 20

// bucketName is the bucket that the replicas share.
const bucketName = "images"

// stage is the registry, the object store and the replicas.
type stage struct {
	registry *upstreamtest.Registry
	objects  *objects
	replicas []*replica // those that live
	change   func(*replica)

	folder string
	gone   []*replica
	mu     sync.Mutex
	events []webhook.Event // of all replicas
}

// open starts everything. After an error, what was started must be closed too.
func (st *stage) open(ctx context.Context) (err error) {
	if st.folder, err = os.MkdirTemp("", "pullthrough-fleet-"); err != nil {
		return err
	}
	if st.registry, err = upstreamtest.Start(); err != nil {
		return err
	}
	if st.objects, err = openObjects(); err != nil {
		return err
	}
	st.registry.Pace(pace)
	for _, name := range []string{"replica-1", "replica-2", "replica-3"} {
		if err := st.add(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// peers are the addresses of the replicas that live.
func (st *stage) peers(context.Context) []string {
	st.mu.Lock()
	defer st.mu.Unlock()
	var all []string
	for _, r := range st.replicas {
		all = append(all, r.fleet.Self)
	}
	return all
}

// add starts a replica with an empty disk.
func (st *stage) add(ctx context.Context, name string) error {
	r, err := newReplica(name, st)
	if err != nil {
		return err
	}
	st.mu.Lock()
	st.replicas = append(st.replicas, r)
	st.mu.Unlock()
	return r.start(ctx)
}

// kill ends a replica as the loss of its machine does: in the middle of everything.
func (st *stage) kill(r *replica) {
	r.cut()
	st.mu.Lock()
	defer st.mu.Unlock()
	for i, other := range st.replicas {
		if other == r {
			st.replicas = append(st.replicas[:i:i], st.replicas[i+1:]...)
		}
	}
	st.gone = append(st.gone, r)
}

// sent notes an event of a replica.
func (st *stage) sent(_ context.Context, ev webhook.Event) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.events = append(st.events, ev)
	return nil
}

// takeEvents returns the events since the last call.
func (st *stage) takeEvents() []webhook.Event {
	st.mu.Lock()
	defer st.mu.Unlock()
	events := st.events
	st.events = nil
	return events
}

// close ends everything and removes the disks.
func (st *stage) close() (err error) {
	for _, r := range append(st.replicas, st.gone...) {
		err = errors.Join(err, r.close())
	}
	if st.objects != nil {
		st.objects.stop()
	}
	if st.registry != nil {
		st.registry.Close()
	}
	return errors.Join(err, os.RemoveAll(st.folder))
}

// objects is an S3 server in this process, which counts what it is asked.
type objects struct {
	server *http.Server
	url    string
	reads  atomic.Int64 // requests that read
	bytes  atomic.Int64 // that were written
}

func openObjects() (*objects, error) {
	backend := s3mem.New()
	if err := backend.CreateBucket(bucketName); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &objects{url: "http://" + l.Addr().String()}
	next := gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server()
	o.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			o.bytes.Add(max(0, r.ContentLength))
		} else if r.Method == http.MethodGet || r.Method == http.MethodHead {
			o.reads.Add(1)
		}
		next.ServeHTTP(w, r)
	})}
	go func() { _ = o.server.Serve(l) }()
	return o, nil
}

// open returns the store in the bucket.
func (o *objects) open() (*s3.Store, error) {
	client, err := s3.NewClient(s3.ClientOptions{Endpoint: o.url, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "example", SecretAccessKey: "example"}, nil
	})})
	if err != nil {
		return nil, err
	}
	return s3.New(s3.Options{Client: client, Bucket: bucketName})
}

// stop ends the server.
func (o *objects) stop() { _ = o.server.Close() }

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/pullthrough/pullthrough/auth"
	"github.com/pullthrough/pullthrough/auth/azure"
	"github.com/pullthrough/pullthrough/store/azblob"
	"github.com/pullthrough/pullthrough/store/s3"
)

// bucket returns what the file says about a bucket, or nil if that is wrong. It asks no server.
func (b farConfig) bucket(ids *azure.Identities, found *mistakes) *bucket {
	before := found.count()
	var one *bucket
	var pos position
	switch {
	case b.s3.line != 0 && b.s3.bucket.text != "":
		pos, one = b.s3.position, b.s3.store(found)
	case b.azblob.line != 0 && b.azblob.url.text != "":
		pos, one = b.azblob.position, b.azblob.store(ids, found)
	default:
		return nil // noted when it was read
	}
	if found.count() > before {
		return nil
	}
	if _, err := one.open(nil); err != nil {
		found.add(pos, "%s", plain(err))
		return nil
	}
	return one
}

// store returns a bucket of S3.
func (s s3Config) store(found *mistakes) *bucket {
	keys := s.keys(found)
	roots := roots(s.ca, found)
	open := func(log *slog.Logger) (remoteStore, error) {
		o := s3.ClientOptions{Endpoint: s.endpoint.text, Region: s.region.text, Credentials: keys, VirtualHosts: s.virtualHosts}
		if roots != nil {
			o.HTTP = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
				t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 64, time.Minute
				t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
			})
		}
		client, err := s3.NewClient(o)
		if err != nil {
			return nil, err
		}
		return s3.New(s3.Options{Client: client, Bucket: s.bucket.text, Prefix: s.prefix.text, Logger: log})
	}
	return &bucket{name: strings.TrimSuffix("s3:"+s.bucket.text+"/"+s.prefix.text, "/"), open: open, unconditional: s3.ErrUnconditional}
}

// keys are the credentials of a bucket of S3, which are read at every request.
func (s s3Config) keys(found *mistakes) aws.CredentialsProvider {
	k := &s3Keys{}
	for _, one := range []struct {
		key    string
		config secretConfig
		to     *auth.Secret
		env    string
	}{
		{"accessKey", s.accessKey, &k.access, "AWS_ACCESS_KEY_ID"},
		{"secretKey", s.secretKey, &k.secret, "AWS_SECRET_ACCESS_KEY"},
		{"sessionToken", s.sessionToken, &k.session, "AWS_SESSION_TOKEN"},
	} {
		*one.to = one.config.secret(nil, word{}, found)
		switch {
		case one.config.line != 0:
		case s.accessKey.line == 0 && s.secretKey.line == 0 && s.sessionToken.line == 0:
			*one.to = auth.Env(one.env)
		case one.key != "sessionToken":
			found.add(s.position, "needs %s, too: accessKey and secretKey belong together; without both, %s and the like of the environment are used", one.key, one.env)
		}
	}
	if os.Getenv("AWS_SESSION_TOKEN") == "" && s.sessionToken.line == 0 {
		k.session = nil
	}
	if _, err := k.Retrieve(context.Background()); err != nil && k.access != nil && k.secret != nil {
		found.add(s.position, "the credentials cannot be read: %s; give accessKey and secretKey", plain(err))
	}
	return k
}

// s3Keys are credentials that are read at each use. It is safe for concurrent use.
type s3Keys struct{ access, secret, session auth.Secret }

// Retrieve implements [aws.CredentialsProvider].
func (k *s3Keys) Retrieve(ctx context.Context) (c aws.Credentials, err error) {
	for _, one := range []struct {
		secret auth.Secret
		to     *string
	}{{k.access, &c.AccessKeyID}, {k.secret, &c.SecretAccessKey}, {k.session, &c.SessionToken}} {
		if one.secret == nil {
			continue
		}
		text, _, err := one.secret.Read(ctx)
		if err != nil {
			return aws.Credentials{}, err
		}
		*one.to = text.Reveal()
	}
	if c.AccessKeyID == "" || c.SecretAccessKey == "" {
		return aws.Credentials{}, errors.New("the access key or the secret key is empty")
	}
	return c, nil
}

// store returns a container of Azure.
func (a azblobConfig) store(ids *azure.Identities, found *mistakes) *bucket {
	o := azblob.ClientOptions{URL: a.url.text}
	given := 0
	for _, one := range []struct {
		config secretConfig
		to     *auth.Sensitive
	}{{a.key, &o.Key}, {a.sas, &o.SAS}} {
		if one.config.line == 0 {
			continue
		}
		given++
		if secret := one.config.secret(nil, word{}, found); secret != nil {
			var err error
			if *one.to, _, err = secret.Read(context.Background()); err != nil {
				found.add(one.config.position, "%s", plain(err))
			}
		}
	}
	if a.identity.given() {
		given++
		if _, err := ids.UserAssigned(a.identity.text); err != nil {
			found.add(a.identity.position, "%s", plain(err))
		}
	}
	if given > 1 {
		found.add(a.position, "is opened in one way: with identity, key or sas; without them, with the system-assigned identity of the machine")
	}
	open := func(log *slog.Logger) (remoteStore, error) {
		o := o
		if o.Key.Empty() && o.SAS.Empty() {
			var err error
			if o.Credential, err = azblob.ManagedIdentity(a.identity.text, nil); err != nil {
				return nil, err
			}
		}
		client, err := azblob.NewClient(o)
		if err != nil {
			return nil, err
		}
		return azblob.New(azblob.Options{Client: client, Prefix: a.prefix.text, Logger: log})
	}
	name := ""
	if u, err := url.Parse(a.url.text); err == nil {
		name = fmt.Sprint("azblob:", cmp.Or(u.Host, "?"), u.Path)
	}
	return &bucket{name: name, open: open, unconditional: azblob.ErrUnconditional}
}

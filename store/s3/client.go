package s3

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ClientOptions are what a client is made of.
type ClientOptions struct {
	// Endpoint is the URL of the server: http or https, without user, query and fragment.
	// If empty, it is that of AWS in the Region.
	Endpoint string
	// Region is the name of the region. If empty and there is an Endpoint, it is
	// us-east-1, which servers other than AWS usually take; without one it must be set.
	Region string
	// Credentials are asked whenever a request is signed, so they may change. If nil,
	// requests are not signed.
	Credentials aws.CredentialsProvider
	// VirtualHosts puts the name of the bucket into the host rather than the path. It is
	// for servers at an Endpoint of their own; AWS always has it so.
	VirtualHosts bool
	// HTTP sends the requests. If nil, it is a client of the SDK with 64 idle connections,
	// that waits a minute for a header and follows no redirects.
	HTTP aws.HTTPClient
}

// NewClient returns a client that a Store can use.
//
// A client that is made in another way needs RequestChecksumCalculation as
// aws.RequestChecksumCalculationWhenRequired: with the default, multipart uploads fail at
// servers other than AWS. For those it also needs UsePathStyle, as a rule.
func NewClient(o ClientOptions) (*s3.Client, error) {
	opts := s3.Options{
		Region: o.Region, Credentials: o.Credentials, HTTPClient: o.HTTP,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	if o.Endpoint != "" {
		if err := checkEndpoint(o.Endpoint); err != nil {
			return nil, err
		}
		opts.BaseEndpoint, opts.UsePathStyle = &o.Endpoint, !o.VirtualHosts
		if o.Region == "" {
			opts.Region = "us-east-1"
		}
	}
	if opts.Region == "" {
		return nil, errors.New("s3: without an endpoint the region must be set")
	}
	if o.Credentials == nil {
		opts.Credentials = aws.AnonymousCredentials{}
	}
	if o.HTTP == nil {
		opts.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 64
			t.ResponseHeaderTimeout = time.Minute
		})
	}
	return s3.New(opts), nil
}

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return errors.New("s3: the endpoint is no URL") // the error would show it, with a password
	}
	if u.User != nil {
		return errors.New("s3: the endpoint has a user, which belongs into the credentials")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("s3: the endpoint %q is no http or https URL without query and fragment", endpoint)
	}
	return nil
}

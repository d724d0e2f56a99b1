package azblob

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/pullthrough/pullthrough/internal/objectstore"
	"github.com/pullthrough/pullthrough/store"
)

// errTimeout reports a request without a response, while the context of the call goes on.
// It is not [context.DeadlineExceeded], which callers take for an end of their own.
var errTimeout = errors.New("no response in time")

// refusal is a response other than a success. It replaces the error of the SDK, whose text
// has the body of the response and which holds the request with its credentials.
type refusal struct {
	status int
	code   bloberror.Code // such as BlobNotFound, or empty
	id     string         // of the request, for the support of Azure, or empty
	means  error          // a sentinel, or nil
}

// Error returns the status, the code and what to do.
func (r *refusal) Error() string {
	text := fmt.Sprintf("status %d", r.status)
	if r.code != "" {
		text += " " + string(r.code)
	}
	if r.id != "" {
		text += ", request " + r.id
	}
	if r.means != nil {
		text += ": " + r.means.Error()
	}
	if remedy := r.remedy(); remedy != "" {
		text += ": " + remedy
	}
	return text
}

// Unwrap returns what the refusal means.
func (r *refusal) Unwrap() error { return r.means }

// remedy says what to do about a refusal that has to do with the configuration.
func (r *refusal) remedy() string {
	switch r.code {
	case bloberror.ContainerNotFound:
		return "the container must exist"
	case bloberror.AuthorizationPermissionMismatch, bloberror.InsufficientAccountPermissions:
		return "the identity needs the role Storage Blob Data Contributor on the container, a SAS the permissions racwdl"
	case bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo:
		return "the credential is wrong or has expired, or the clock of this machine is wrong"
	case bloberror.AuthorizationFailure:
		return "the network rules of the account may refuse this machine"
	case bloberror.BlobArchived, bloberror.BlobBeingRehydrated:
		return "no lifecycle rule may move blobs of the store to the archive tier"
	case bloberror.BlobImmutableDueToPolicy:
		return "the container must not have an immutability policy"
	case leaseIDMissing:
		return "somebody holds a lease of the blob, which the store never does"
	}
	return ""
}

// leaseIDMissing is the code of writes to a blob that somebody has leased.
const leaseIDMissing bloberror.Code = "LeaseIdMissing"

// meaning returns the sentinel that callers look for. Only the refusals that say so mean
// that a condition did not hold: others of the same status would let callers that compare
// and swap try without end.
func (r *refusal) meaning() error {
	switch r.status {
	case http.StatusNotFound:
		if r.code == bloberror.BlobNotFound || r.code == "" {
			return store.ErrNotFound
		}
	case http.StatusConflict:
		if r.code == bloberror.BlobAlreadyExists || r.code == "" {
			return objectstore.ErrChanged
		}
	case http.StatusPreconditionFailed:
		if r.code == bloberror.ConditionNotMet || r.code == bloberror.TargetConditionNotMet || r.code == "" {
			return objectstore.ErrChanged
		}
	case http.StatusBadRequest:
		if r.code == bloberror.InvalidBlockList { // see upload.Complete
			return objectstore.ErrChanged
		}
	case http.StatusInsufficientStorage:
		return store.ErrFull
	}
	return nil
}

// explain turns an error of the SDK into one that is safe to show: without addresses that
// have a SAS, headers, or bodies of responses.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if end := ctx.Err(); end != nil {
		return end
	}
	if failed, ok := errors.AsType[*azcore.ResponseError](err); ok {
		r := &refusal{status: failed.StatusCode, code: bloberror.Code(word(failed.ErrorCode))}
		if failed.RawResponse != nil {
			r.id = word(failed.RawResponse.Header.Get("X-Ms-Request-Id"))
		}
		r.means = r.meaning()
		return r
	}
	if failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		if failed.RawResponse == nil {
			return errors.New("the identity got no token")
		}
		return fmt.Errorf("the identity got no token: status %d", failed.RawResponse.StatusCode)
	}
	return transportError(err)
}

// transportError returns what may be shown of the error of a request that got no response,
// or one that is none: the texts of others repeat the address, or what was received.
func transportError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		return failed
	}
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failed
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return fmt.Errorf("no response that can be used (%T)", err)
}

// word returns s if it is a word as codes and ids of requests are, and nothing otherwise.
func word(s string) string {
	strange := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-')
	}
	if len(s) > 64 || strings.ContainsFunc(s, strange) {
		return ""
	}
	return s
}

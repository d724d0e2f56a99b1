package upstream

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/pullthrough/pullthrough/auth"
)

const (
	// maxErrorBody is how many bytes of the body of a refusal are read.
	maxErrorBody = 64 << 10
	// maxMessage is how many bytes of the message in it are kept.
	maxMessage = 1 << 10
)

// ociError is the first error in the body of a refusal.
type ociError struct {
	code string // empty unless it is plausible
	// message is what the upstream wrote. It may repeat what it was sent, and so it is
	// for an auth.Observer alone.
	message auth.Sensitive
}

// readOCIError reads the body of a refusal. A body that is not as the distribution spec
// demands yields nothing, and a code that repeats what was sent is left out.
func readOCIError(resp *http.Response) ociError {
	if resp.Body == nil {
		return ociError{}
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil || checkEncoding(resp.Header) != nil {
		return ociError{}
	}
	var envelope struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(data, &envelope) != nil || len(envelope.Errors) == 0 {
		return ociError{}
	}
	first := envelope.Errors[0]
	if len(first.Code) > 64 || strings.Trim(first.Code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != "" {
		first.Code = ""
	}
	if g := guardOf(resp.Request.Context()); g != nil && g.echoes.repeats(first.Code) {
		first.Code = ""
	}
	return ociError{first.Code, auth.NewSensitive(first.Message[:min(len(first.Message), maxMessage)])}
}

package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of Standard Webhooks 1.0.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, as the specification says
	maxSecret    = 64
)

// keys decodes the secrets.
func (h *HTTP) keys() ([][]byte, error) {
	var keys [][]byte
	for _, s := range h.Secrets {
		key, err := parseSecret(s)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("%w: a signing secret is not %q and base64 of %d to %d bytes", ErrConfig, secretPrefix, minSecret, maxSecret)
	}
	return key, nil
}

// sign adds the headers of Standard Webhooks to header, if there are secrets.
func (h *HTTP) sign(header http.Header, id string, now time.Time, body []byte) error {
	keys, err := h.keys()
	if err != nil || len(keys) == 0 {
		return err
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	var signatures []string
	for _, key := range keys {
		signatures = append(signatures, "v1,"+signature(key, id, timestamp, body))
	}
	header.Set(headerID, id)
	header.Set(headerTimestamp, timestamp)
	header.Set(headerSignature, strings.Join(signatures, " "))
	return nil
}

func signature(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// ErrSignature reports a request without a valid signature, or with one whose
// timestamp is too far from now.
var ErrSignature = errors.New("webhook: the signature does not match")

// signatureAge is how far a timestamp may be from now.
const signatureAge = 5 * time.Minute

// Verify is for receivers in Go: given the headers and the body of a request, it
// checks that the request was signed with one of the secrets. The timestamp may be up
// to 5 minutes from now. Errors wrap [ErrSignature], or [ErrConfig] if a secret is not
// valid.
func Verify(header http.Header, body []byte, now time.Time, secrets ...string) error {
	id, timestamp := header.Get(headerID), header.Get(headerTimestamp)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if id == "" || err != nil {
		return fmt.Errorf("%w: webhook-id or webhook-timestamp is missing", ErrSignature)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > signatureAge || age < -signatureAge {
		return fmt.Errorf("%w: the timestamp is too far from now", ErrSignature)
	}
	for _, secret := range secrets {
		key, err := parseSecret(secret)
		if err != nil {
			return err
		}
		want := []byte(signature(key, id, timestamp, body))
		for got := range strings.FieldsSeq(header.Get(headerSignature)) {
			if text, ok := strings.CutPrefix(got, "v1,"); ok && hmac.Equal([]byte(text), want) {
				return nil
			}
		}
	}
	return ErrSignature
}

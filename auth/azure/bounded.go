package azure

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

type proxyFunc = func(*http.Request) (*url.URL, error)

// bounded is a transport for the SDK that bounds the size of responses, since the SDK
// reads them whole, and removes the texts of refusals, since the SDK logs them and they
// may repeat what was sent.
type bounded struct{ client *http.Client }

// Do sends a request.
func (b bounded) Do(req *http.Request) (*http.Response, error) {
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > maxAnswer {
		_ = resp.Body.Close()
		return nil, errTooLarge
	}
	resp.Body = &boundedBody{resp.Body, maxAnswer}
	if resp.StatusCode == http.StatusOK {
		resp.Header.Del("Www-Authenticate") // nothing needs it, and the SDK logs it
		return resp, nil
	}
	if err := stripRefusal(req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// boundedBody fails once more than left bytes were read.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// stripRefusal keeps of a refusal only what the SDK and this package use: the status,
// when to retry, a vault's challenge, and the error codes of Entra and Key Vault.
func stripRefusal(req *http.Request, resp *http.Response) error {
	data, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/json"}}
	for _, k := range []string{"Retry-After", "Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if v := resp.Header.Values(k); len(v) > 0 {
			header[k] = v
		}
	}
	if v := resp.Header.Values("Www-Authenticate"); req.Method == http.MethodGet && !repeatsSecret(v, req.Header) {
		header["Www-Authenticate"] = v
	}
	body, _ := json.Marshal(errorCodes(data)) // a map of strings
	resp.Header, resp.Body, resp.ContentLength = header, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// repeatsSecret reports whether a challenge holds the secret in the headers of the
// request.
func repeatsSecret(challenges []string, sent http.Header) bool {
	_, token, _ := strings.Cut(sent.Get("Authorization"), " ")
	for _, secret := range []string{token, sent.Get("X-Identity-Header")} {
		if secret != "" && strings.Contains(strings.Join(challenges, " "), secret) {
			return true
		}
	}
	return false
}

// errorCodes returns the codes of {"error": CODE, "error_description": "AADSTS...: ..."}
// and {"error": {"code": CODE}} in the same form, and nothing else.
func errorCodes(data []byte) map[string]any {
	var body struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	var code string
	var vault struct {
		Code string `json:"code"`
	}
	switch {
	case json.Unmarshal(data, &body) != nil:
	case json.Unmarshal(body.Error, &code) == nil:
		return map[string]any{"error": plainCode(code), "error_description": entraCode.FindString(body.Description)}
	case json.Unmarshal(body.Error, &vault) == nil:
		return map[string]any{"error": map[string]string{"code": plainCode(vault.Code)}}
	}
	return map[string]any{}
}

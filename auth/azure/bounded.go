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

// bounded is a transport of the SDK that reads no answer without end, since the
// SDK reads them whole, and gives it no words of a refusal, since the SDK logs
// them and they may repeat what was sent.
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
		resp.Header.Del("Www-Authenticate") // which nobody needs, and the SDK logs
		return resp, nil
	}
	if err := wordless(req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

// boundedBody fails once more was read than is left.
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

// wordless leaves of a refusal what the SDK and we go by: the status, when to
// come again, a vault's challenge, and error codes as Entra and as Key Vault
// write them.
func wordless(req *http.Request, resp *http.Response) error {
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
	if v := resp.Header.Values("Www-Authenticate"); req.Method == http.MethodGet && !repeats(v, req.Header) {
		header["Www-Authenticate"] = v
	}
	body, _ := json.Marshal(errorCodes(data)) // a map of strings
	resp.Header, resp.Body, resp.ContentLength = header, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// repeats reports whether a challenge holds the secret that a request without a
// body was sent with.
func repeats(challenges []string, sent http.Header) bool {
	_, token, _ := strings.Cut(sent.Get("Authorization"), " ")
	for _, secret := range []string{token, sent.Get("X-Identity-Header")} {
		if secret != "" && strings.Contains(strings.Join(challenges, " "), secret) {
			return true
		}
	}
	return false
}

// errorCodes reads {"error": CODE, "error_description": "AADSTS...: ..."} and
// {"error": {"code": CODE}}.
func errorCodes(data []byte) map[string]any {
	var said struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"error_description"`
	}
	var code string
	var vault struct {
		Code string `json:"code"`
	}
	switch {
	case json.Unmarshal(data, &said) != nil:
	case json.Unmarshal(said.Error, &code) == nil:
		return map[string]any{"error": plainCode(code), "error_description": entraCode.FindString(said.Description)}
	case json.Unmarshal(said.Error, &vault) == nil:
		return map[string]any{"error": map[string]string{"code": plainCode(vault.Code)}}
	}
	return map[string]any{}
}

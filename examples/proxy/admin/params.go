package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of requests and answers.
const (
	maxBody      = 64 << 10 // bytes of the body of a request
	maxText      = 2 << 10  // bytes of a text of others in an answer, such as an error of an upstream
	maxTags      = 20       // of one copy
	defaultLimit = 100      // elements of a list
	maxLimit     = 500
)

// wrong says what is wrong with a parameter or a field.
func wrong(format string, args ...any) error {
	return &Error{Status: http.StatusBadRequest, Code: CodeParameter, Message: fmt.Sprintf(format, args...)}
}

// parameters returns the parameters of a request, which must be among those that are known.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, wrong("the parameters cannot be read: %v", err)
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, wrong("%q is no parameter of this path; known here: %s", short(name), strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, wrong("the parameter %s is given twice", name)
		}
	}
	return q, nil
}

// limit returns the parameter limit.
func limit(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, wrong("limit: %q is no number from 1 to %d", short(text), maxLimit)
	}
	return min(n, maxLimit), nil
}

// required returns a parameter that must be there.
func required(q url.Values, name string) (string, error) {
	if text := q.Get(name); text != "" {
		return text, nil
	}
	return "", wrong("the parameter %s is missing", name)
}

// body reads the body of a request, which must be JSON without unknown fields. An empty body
// is an empty object.
func body(r *http.Request, into any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return &Error{Status: http.StatusUnsupportedMediaType, Code: CodeContentType, Message: "the header Content-Type must be application/json"}
	}
	data, err := io.ReadAll(r.Body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: CodeBodySize, Message: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	}
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Code: CodeBody, Message: "the body could not be read", Err: err}
	}
	if len(data) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &Error{Status: http.StatusBadRequest, Code: CodeBody, Message: "the body is not the expected JSON: " + bound(err.Error(), 300)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &Error{Status: http.StatusBadRequest, Code: CodeBody, Message: "the body is not the expected JSON: there is more after it"}
	}
	return nil
}

// cursor is the place in a list after a job.
func cursor(created time.Time, id string) string {
	return strconv.FormatInt(created.UnixNano(), 36) + "-" + id
}

// parseCursor is the reverse of cursor.
func parseCursor(text string) (created time.Time, id string, err error) {
	nanos, id, ok := strings.Cut(text, "-")
	n, err := strconv.ParseInt(nanos, 36, 64)
	if err != nil || !ok {
		return time.Time{}, "", wrong("after: %q is not the next of a former page", short(text))
	}
	return time.Unix(0, n).UTC(), id, nil
}

// bound cuts a text of others.
func bound(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// Package retryafter reads the header Retry-After.
package retryafter

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxDigits is how many digits a number of 64 bits has. What has more of them is not
// meant as a number of seconds.
const maxDigits = 20

// Parse returns how long the Retry-After of an answer that came at now asks to
// wait (RFC 9110 section 10.2.3), in seconds or as an HTTP date. It is 0 if the
// header says nothing that can be read, and never more than most: a server must not
// be able to send a client away for good. A date is taken against the Date of the
// answer if there is one, since clocks differ.
func Parse(h http.Header, now time.Time, most time.Duration) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		if len(value) > maxDigits {
			return 0
		}
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(most/time.Second) {
			return most
		}
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), most)
}

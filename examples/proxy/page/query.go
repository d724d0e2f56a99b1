package page

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// The parameters of the page.
const (
	keySpan     = "span"     // day, or empty for an hour
	keyCopies   = "copies"   // a state of copies, or empty for all
	keyAfter    = "after"    // the last copy of the former page
	keyPulls    = "pulls"    // trouble, blobs, strangers, or empty for images
	keyRules    = "rules"    // a text that a rule contains
	keyRulePage = "rulepage" // from 1
	keyHosts    = "hosts"    // a text that the name of an upstream contains
	keyExplain  = "explain"  // a name to explain
	keyReceiver = "receiver" // the receiver whose deliveries are shown
	keyDone     = "done"     // what became of a form
)

// maxParameter is how many bytes of a parameter count.
const maxParameter = 600

// query is what a request asks the page to show. Everything in it is what a client sent.
type query struct {
	values url.Values // the known parameters that are not empty
}

// parseQuery keeps the known parameters.
func parseQuery(given url.Values) query {
	q := query{values: url.Values{}}
	for _, key := range []string{keySpan, keyCopies, keyAfter, keyPulls, keyRules, keyRulePage, keyHosts, keyExplain, keyReceiver, keyDone} {
		text := strings.TrimSpace(given.Get(key))
		if len(text) > maxParameter {
			text = strings.ToValidUTF8(text[:maxParameter], "")
		}
		if text != "" {
			q.values.Set(key, text)
		}
	}
	return q
}

// get returns a parameter.
func (q query) get(key string) string { return q.values.Get(key) }

// number returns a parameter that is a number from 1, or 1.
func (q query) number(key string) int {
	n, err := strconv.Atoi(q.get(key))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// link returns the address of the page with other values of parameters: key, value, key,
// value. An empty value removes one. What became of a form is not repeated.
func (q query) link(section string, pairs ...string) string {
	values := url.Values{}
	for key, list := range q.values {
		values[key] = list
	}
	values.Del(keyDone)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			values.Del(pairs[i])
		} else {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	address := "/"
	if text := values.Encode(); text != "" {
		address += "?" + text
	}
	if section != "" {
		address += "#" + section
	}
	return address
}

// parameter is a hidden field of a form.
type parameter struct{ Name, Value string }

// others returns the parameters that a form keeps, without its own.
func (q query) others(own ...string) (list []parameter) {
	for _, key := range []string{keySpan, keyCopies, keyPulls, keyRules, keyHosts, keyExplain, keyReceiver} {
		keep := q.get(key) != ""
		for _, one := range own {
			keep = keep && one != key
		}
		if keep {
			list = append(list, parameter{key, q.get(key)})
		}
	}
	return list
}

// after returns the copy that a page of copies follows.
func (q query) after() cache.CopyState {
	nano, id, _ := strings.Cut(q.get(keyAfter), "-")
	n, err := strconv.ParseInt(nano, 10, 64)
	if err != nil {
		return cache.CopyState{}
	}
	return cache.CopyState{Created: time.Unix(0, n), ID: id}
}

// cursor is a copy as the value of keyAfter.
func cursor(c cache.CopyState) string {
	return strconv.FormatInt(c.Created.UnixNano(), 10) + "-" + c.ID
}

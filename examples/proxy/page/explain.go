package page

import (
	"context"
	"strings"
	"time"

	"github.com/pullthrough/pullthrough/cache"
)

// explainView is the section that says what a pull would do.
type explainView struct {
	Name    string // as typed
	Asked   bool
	Error   string
	Text    string
	State   state
	Facts   []fact
	Copy    *copyRow
	Hidden  []parameter
	Example string
}

// fact is a line of an explanation.
type fact struct{ Name, Value string }

// viewExplain explains what was asked for.
func (p *Page) viewExplain(ctx context.Context, q query, now time.Time) explainView {
	v := explainView{Name: q.get(keyExplain), Hidden: q.others(keyExplain), Example: p.Try}
	if v.Name == "" {
		return v
	}
	v.Asked = true
	repository, reference := p.splitName(v.Name)
	x, err := p.Cache.Explain(ctx, repository, reference)
	if err != nil {
		v.Error, v.State = short(err.Error(), 300), state{bad, "Not a name that can be pulled"}
		return v
	}
	v.State = verdict(x, now)
	v.Text = short(sentence(x.Text), 2000)
	v.Facts = []fact{{"Repository here", x.Repository}}
	if x.Rule != "" {
		v.Facts = append(v.Facts, fact{"Rule", x.Rule}, fact{"Source", x.Source.String()})
	}
	if x.Stored {
		v.Facts = append(v.Facts, fact{"Stored", x.Digest.String()})
	}
	if x.Trouble != nil {
		v.Facts = append(v.Facts, fact{"Trouble", short(x.Trouble.Error(), 300)})
	}
	if x.Held != "" {
		v.Facts = append(v.Facts, heldFact(x, now))
	}
	if x.Copy != nil {
		row := viewCopy(*x.Copy, now)
		v.Copy = &row
	}
	return v
}

// verdict says in a few words what a pull does.
func verdict(x cache.Explanation, now time.Time) state {
	switch {
	case x.Stored && x.Fresh:
		return state{good, "The next pull is local"}
	case x.Stored && x.Trouble != nil:
		return state{warn, "The next pull is local, unchecked"}
	case x.Stored:
		return state{good, "The next pull is local, after a check of the tag"}
	case x.Rule == "":
		return state{bad, "A pull fails: no rule covers the name"}
	case x.Trouble != nil:
		return state{bad, "A pull fails: the source cannot be asked"}
	case x.Held != "" && untilRank(x.HeldUntil, now) < 2:
		return state{warn, "A pull is refused: the image is held"}
	}
	return state{idle, "The next pull comes from the source"}
}

// splitName splits what a person types: NAME, NAME:TAG or NAME@DIGEST, with or without the
// address of the cache, and with or without https:// and "docker pull".
func (p *Page) splitName(text string) (repository, reference string) {
	if fields := strings.Fields(text); len(fields) > 0 {
		text = fields[len(fields)-1]
	}
	for _, prefix := range []string{"https://", "http://", p.Address + "/"} {
		text = strings.TrimPrefix(text, prefix)
	}
	if name, digest, ok := strings.Cut(text, "@"); ok {
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i] // a tag beside a digest counts for nothing
		}
		return name, digest
	}
	if i := strings.LastIndexByte(text, ':'); i > strings.LastIndexByte(text, '/') {
		return text[:i], text[i+1:]
	}
	return text, "latest"
}

// sentence begins with a capital and ends with a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	if c := text[0]; 'a' <= c && c <= 'z' {
		text = string(c-'a'+'A') + text[1:]
	}
	return strings.TrimSuffix(text, ".") + "."
}

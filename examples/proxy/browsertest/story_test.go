package browsertest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/pullthrough/pullthrough/upstream/upstreamtest"
)

// TestStory: somebody opens the page and pulls an image. The copy appears, its bar moves, its
// events are delivered, and Explain says why the next pull is local. Meanwhile the page
// changes only what has changed. Then the upstream goes, and at last the proxy.
func TestStory(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	image := p.up.AddImage("team/app", "v1", upstreamtest.Layers(3, 1<<20))
	p.up.Pace(1 << 18) // until the bar has moved
	b := openBrowser(t)
	b.look(1600, "light")
	b.open(p.page)
	b.untilText("overview", "docker pull "+p.address+"/local/NAME:TAG")
	b.untilText("copies", "Nothing is being copied")
	b.shoot("story-empty")

	// What a person does meanwhile must not be lost.
	do(b, "type", chromedp.SendKeys(chromedp.CSS("#explain-name"), "local/team/ap"))
	eval[bool](b, "(document.getElementById('figures') || document.createElement('details')).open = true")
	eval[int](b, "scrollTo(0, 300), 0")

	pulled := make(chan error, 1)
	go func() { pulled <- p.pull(image, "v1") }()
	b.untilText("copies", "local/team/app:v1")
	b.until("the bar has begun", "document.querySelector('#copies progress')?.value > 0")
	begun := eval[float64](b, "document.querySelector('#copies tbody tr').kept = true, document.querySelector('#copies progress').value")
	b.until("the bar has moved", fmt.Sprintf("document.querySelector('#copies progress')?.value > %f", begun))
	b.shoot("story-copying")
	p.up.Pace(0)
	if !eval[bool](b, "document.querySelector('#copies tbody tr').kept === true") {
		t.Error("the row of the copy was made anew")
	}
	if got := eval[string](b, "document.activeElement.id + ' ' + document.activeElement.value + ' ' + scrollY"); got != "explain-name local/team/ap 300" {
		t.Errorf("focus, text and position are %q", got)
	}
	if err := <-pulled; err != nil {
		t.Fatal(err)
	}
	b.untilText("pulls", "local/team/app:v1")
	b.untilText("pulls", "From upstream")
	b.untilText("copies", "Nothing is being copied")
	b.untilText("deliveries", "Delivered, 200")
	b.untilText("summary", "Everything works")
	b.untilText("rules", "Works")
	b.untilText("upstreams", "Answers")

	do(b, "ask", chromedp.SendKeys(chromedp.CSS("#explain-name"), "p:v1"+kb.Enter))
	b.untilText("answer", "The next pull is local")
	b.untilText("answer", "a complete copy is here and is served")
	if err := p.pull(image, "v1"); err != nil {
		t.Fatal(err)
	}
	b.untilText("pulls", "From here")
	b.untilText("pulls", "It is stored here, so the source was not asked.")
	b.shoot("story-local")
	b.quiet()
	b.resend(p)

	p.up.Stop()
	if err := p.pull(image, "v2"); err == nil {
		t.Error("a tag that is nowhere was pulled")
	}
	b.untilText("summary", "is unreachable")
	b.untilText("upstreams", "Unreachable")
	b.untilText("rules", "Upstream unreachable")
	b.shoot("story-down")
	if title := eval[string](b, "document.title"); !strings.Contains(title, "is unreachable") {
		t.Errorf("the title is %q", title)
	}
	b.quiet()

	p.stop()
	b.untilText("lost", "No connection")
	b.quiet("ERR_CONNECTION", "Failed to load resource")
}

// resend sends an event again: first with a wrong token, and then with the right one.
func (b *browser) resend(p *proxy) {
	b.t.Helper()
	tag := `"tag":"v1"`
	if n := p.events.count(tag); n != 1 {
		b.t.Fatalf("the receiver got %d events of the tag, want 1", n)
	}
	button := `[...document.querySelectorAll('#deliveries tr')].find((r) => r.innerText.includes('local/team/app:v1')).querySelector('button')`
	press := func() {
		eval[bool](b, button+".focus(), true")
		do(b, "press the button", chromedp.KeyEvent(kb.Enter))
	}
	press()
	b.until("the dialog asks for the token", "document.activeElement.id === 'ask-token'")
	b.shoot("story-token")
	do(b, "give up", chromedp.KeyEvent(kb.Escape))
	b.until("the dialog is gone", "!document.getElementById('ask').open")
	press()
	do(b, "type a wrong token", chromedp.KeyEvent("a-wrong-token-of-someone"+kb.Enter))
	b.untilText("done", "the token is wrong")
	if n := p.events.count(tag); n != 1 {
		b.t.Errorf("an event was sent with a wrong token")
	}
	press()
	do(b, "type the token", chromedp.KeyEvent(token+kb.Enter))
	b.untilText("done", "on its way again")
	b.until("the event is delivered twice", "[...document.querySelectorAll('#tries-title')].length && document.querySelectorAll('#deliveries .state.good').length > 3")
	for deadline := time.Now().Add(patience); p.events.count(tag) != 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("the receiver got %d events of the tag, want 2", p.events.count(tag))
		}
	}
	b.quiet("401", "status of 401")
}

// TestWithoutJavaScript: everything can be read, asked and done without it.
func TestWithoutJavaScript(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	image := p.up.AddImage("team/app", "v1", upstreamtest.Layers(1, 1<<16))
	b := openBrowser(t)
	b.look(400, "dark")
	b.scripts(false)
	b.open(p.page)
	b.untilText("overview", "Nothing was pulled yet")
	if err := p.pull(image, "v1"); err != nil {
		t.Fatal(err)
	}
	b.click("#refresh")
	b.untilText("pulls", "local/team/app:v1")
	if eval[bool](b, "document.getElementById('pause').checkVisibility()") {
		t.Error("there is a button that does nothing")
	}
	do(b, "ask", chromedp.SendKeys(chromedp.CSS("#explain-name"), "local/team/app:v1"+kb.Enter))
	b.untilText("explain", "local/team/app to "+p.up.Host()+"/team/app")
	b.refreshUntil("deliveries", "local/team/app:v1")
	b.shoot("story-plain")

	// A browser asks for the password when the form is sent; here it knows it already.
	call(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": "Bearer " + token}})
	n := p.events.count("v1")
	b.click("form.act button")
	b.untilText("done", "The event is on its way again.")
	for deadline := time.Now().Add(patience); p.events.count("v1") <= n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the event was not sent again")
		}
	}
	b.quiet()
}

// click clicks an element, and waits for the page that this leads to.
func (b *browser) click(selector string) {
	b.t.Helper()
	before := eval[float64](b, "performance.timeOrigin")
	do(b, "click "+selector, chromedp.Click(chromedp.CSS(selector)))
	b.until("the next page is there", fmt.Sprintf("performance.timeOrigin > %f && document.readyState === 'complete'", before))
}

// refreshUntil opens the page anew until an element has a text.
func (b *browser) refreshUntil(id, text string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(eval[string](b, "document.getElementById('"+id+"').innerText"), text); b.click("#refresh") {
		if time.Now().After(deadline) {
			b.t.Fatalf("#%s does not say %s", id, text)
		}
	}
}

package browsertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// reachable names everything that a person may want to reach.
const reachable = `[...document.querySelectorAll("a, button, input:not([type=hidden]), summary")].filter((e) => e.checkVisibility() && !e.closest("dialog"))`

// TestKeyboard: Tab reaches everything, in the order of the page, and shows where it is. The
// first stop leads past the navigation.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s, c, r := newScene(t, "keyboard")
	busy(s, c, r)
	server := httptest.NewServer(&s.page)
	defer server.Close()
	b.look(1600, "light")
	b.open(server.URL)
	eval[bool](b, "document.getElementById('pause').click(), true") // the list must not change
	want := eval[int](b, `window.all = `+reachable+`, all.length`)
	if want < 30 {
		t.Fatalf("only %d can be reached", want)
	}
	eval[bool](b, "document.activeElement.blur(), true")
	for i := range want {
		do(b, "Tab", chromedp.KeyEvent(kb.Tab))
		at := eval[string](b, fmt.Sprintf(`(() => { const e = document.activeElement, s = getComputedStyle(e);
			if (e !== all[%d]) return "at " + e.outerHTML.slice(0, 120) + " and not at " + all[%d].outerHTML.slice(0, 120);
			return s.outlineStyle === "none" || parseFloat(s.outlineWidth) < 2 ? "no focus is seen at " + e.outerHTML.slice(0, 120) : ""; })()`, i, i))
		if at != "" {
			t.Fatalf("stop %d: %s", i, at)
		}
	}
	eval[bool](b, "scrollTo(0, 0), all[0].focus(), true")
	if !eval[bool](b, "document.activeElement.getBoundingClientRect().top >= 0") {
		t.Error("the link past the navigation is not seen when it has the focus")
	}
	do(b, "Enter", chromedp.KeyEvent(kb.Enter))
	b.until("the focus is in the content", "document.activeElement.id === 'main'")
	b.quiet()
}

// TestPauses: a page that nobody sees asks for nothing, nor does one that was told to pause.
// What it missed shows at once afterwards.
func TestPauses(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s, _, r := newScene(t, "pauses")
	var asked atomic.Int64
	var hold atomic.Bool // answers wait
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/" {
			asked.Add(1)
			for hold.Load() && req.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		s.page.ServeHTTP(w, req)
	}))
	defer server.Close()
	b.open(server.URL)
	live := func(what string) {
		t.Helper()
		for n, deadline := asked.Load(), time.Now().Add(patience); asked.Load() < n+2; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the page does not ask", what)
			}
		}
	}
	still := func(what string) {
		t.Helper()
		time.Sleep(time.Second) // for a question that is under way
		n := asked.Load()
		time.Sleep(5 * time.Second) // twice as long as a visible page waits
		if got := asked.Load(); got != n {
			t.Errorf("%s: the page asked %d times", what, got-n)
		}
	}
	hide := func(hidden bool) {
		eval[bool](b, fmt.Sprintf("Object.defineProperty(document, 'hidden', {configurable: true, get: () => %t}), document.dispatchEvent(new Event('visibilitychange'))", hidden))
	}
	live("open")
	hold.Store(true)
	for n, deadline := asked.Load(), time.Now().Add(patience); asked.Load() == n && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	hide(true) // while an answer is under way
	hold.Store(false)
	still("hidden")
	hide(false)
	live("seen again")
	time.Sleep(700 * time.Millisecond) // an answer is there, and the next question is planned
	eval[bool](b, "document.getElementById('pause').click(), true")
	still("paused")
	s.pulls(r)
	if eval[bool](b, "document.getElementById('pulls').innerText.includes('k8s/kube-proxy')") {
		t.Error("a page that pauses has changed")
	}
	eval[bool](b, "document.getElementById('pause').click(), true")
	b.untilText("pulls", "k8s/kube-proxy")
	live("going on")
	b.quiet()
}

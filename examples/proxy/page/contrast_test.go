package page_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestContrast computes the contrast of every color of text on every surface, in both
// themes: 4.5 at least, and 3 for shapes that say something.
func TestContrast(t *testing.T) {
	css := style(t)
	light := colors(t, between(t, css, ":root {", "}"))
	dark := colors(t, between(t, css, "@media (prefers-color-scheme: dark) {\n\t:root {", "}"))
	if len(light) < 20 || len(light) != len(dark) {
		t.Fatalf("%d colors are light and %d dark", len(light), len(dark))
	}
	for theme, all := range map[string]map[string]float64{"light": light, "dark": dark} {
		pairs := 0
		check := func(front, back string, least float64) {
			pairs++
			if c := contrast(all[front], all[back]); c < least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", theme, front, back, c, least)
			}
		}
		for back := range all {
			if !strings.HasPrefix(back, "--surface-") {
				continue
			}
			for front := range all {
				switch {
				case strings.HasPrefix(front, "--text-"):
					check(front, back, 4.5)
				case strings.HasPrefix(front, "--mark-"):
					check(front, back, 3)
				}
			}
		}
		check("--button-first-text", "--button-first", 4.5)
		check("--mark-accent", "--line-track", 3) // how far a bar is
		check("--mark-bad", "--line-track", 3)
		check("--mark-accent", "--line-area", 3) // the line of a picture above its area
		check("--mark-second", "--line-area-second", 3)
		check("--mark-second", "--line-area", 3)
		if pairs < 70 {
			t.Errorf("%s: only %d pairs", theme, pairs)
		}
	}
}

// TestColorsStandInOnePlace: what TestContrast computes is what shows. Text has the colors
// of text, what lies behind text is a surface, and no rule has a color of its own.
func TestColorsStandInOnePlace(t *testing.T) {
	css := style(t)
	_, rules, ok := strings.Cut(css, "*, ::before, ::after")
	if !ok {
		t.Fatal("the rules do not begin where they did")
	}
	if m := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b(?:[^{]*;)|\b(?:rgb|hsl|oklch|lab)a?\(`).FindString(rules); m != "" {
		t.Errorf("a rule has a color of its own: %s", m)
	}
	for _, m := range regexp.MustCompile(`[{;\s](color|background|background-color):\s*([^;}]+)`).FindAllStringSubmatch(rules, -1) {
		value := strings.TrimSpace(m[2])
		name := strings.TrimSuffix(strings.TrimPrefix(value, "var("), ")")
		fine := strings.HasPrefix(value, "var(") && (strings.HasPrefix(name, "--surface-") || strings.HasPrefix(name, "--mark-") ||
			strings.HasPrefix(name, "--button-") || strings.HasPrefix(name, "--line-"))
		if m[1] == "color" {
			// A mark as the color of a shape in ::before, and of the bar of a progress.
			fine = strings.HasPrefix(value, "var(") && (strings.HasPrefix(name, "--text-") || strings.HasPrefix(name, "--button-") || strings.HasPrefix(name, "--mark-"))
		}
		if !fine {
			t.Errorf("%s: %s is no color that the contrast is computed of", m[1], value)
		}
	}
	for _, m := range regexp.MustCompile(`var\((--[a-z-]+)\)`).FindAllStringSubmatch(css, -1) {
		if !strings.Contains(css, m[1]+": #") {
			t.Errorf("%s has no value", m[1])
		}
	}
}

// style returns the style sheet.
func style(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("files/page.css")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func between(t *testing.T, text, begin, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, begin)
	part, _, also := strings.Cut(rest, end)
	if !ok || !also {
		t.Fatalf("%q and %q are not in the style sheet", begin, end)
	}
	return part
}

// colors returns the luminance of each color by its name.
func colors(t *testing.T, block string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, m := range regexp.MustCompile(`(--[a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(block, -1) {
		n, err := strconv.ParseUint(m[2], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		all[m[1]] = 0.2126*linear(n>>16) + 0.7152*linear(n>>8&0xff) + 0.0722*linear(n&0xff)
	}
	return all
}

// linear is the light of a channel, as WCAG defines it.
func linear(channel uint64) float64 {
	c := float64(channel) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

// contrast is the ratio of WCAG.
func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

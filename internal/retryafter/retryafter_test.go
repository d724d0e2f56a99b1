package retryafter

import (
	"net/http"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const most = time.Hour
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for value, want := range map[string]time.Duration{
		"": 0, " ": 0, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "007": 7 * time.Second, "-7": 0, "+7": 0, "7.5": 0, "1e3": 0, "soon": 0,
		"3600": most, "3601": most, "99999999999999999999": most, "9223372036854775807": most, "18446744073709551615": most, "999999999999999999999": 0, "000000000000000000007": 0,
		date(time.Minute): time.Minute, date(0): 0, date(-time.Minute): 0, date(2 * time.Hour): most,
		"Fri, 31 Dec 9999 23:59:59 GMT": most, "Mon, 01 Jan 0001 00:00:00 GMT": 0,
	} {
		if got := Parse(http.Header{"Retry-After": {value}}, now, most); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	if got := Parse(http.Header{}, now, most); got != 0 {
		t.Errorf("no header: %v", got)
	}
}

func TestClockOfTheServer(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	ahead := http.Header{"Retry-After": {date(time.Hour + time.Minute)}, "Date": {date(time.Hour)}}
	if got := Parse(ahead, now, 24*time.Hour); got != time.Minute {
		t.Errorf("a server whose clock is an hour ahead: %v", got)
	}
	odd := http.Header{"Retry-After": {date(time.Minute)}, "Date": {"today"}}
	if got := Parse(odd, now, 24*time.Hour); got != time.Minute {
		t.Errorf("a server whose Date cannot be read: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("7", "", int64(time.Hour))
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:05 GMT", int64(time.Second))
	f.Fuzz(func(t *testing.T, value, date string, most int64) {
		if most < 0 {
			return
		}
		if d := Parse(http.Header{"Retry-After": {value}, "Date": {date}}, time.Now(), time.Duration(most)); d < 0 || d > time.Duration(most) {
			t.Errorf("%v", d)
		}
	})
}

package webhook_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullthrough/pullthrough/webhook"
)

// key is a secret of n bytes.
func key(n int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, n))
}

var secrets = []string{key(32), key(33)}

// hmacByHand is HMAC-SHA256 as RFC 2104 defines it.
func hmacByHand(key, text []byte) string {
	block := func(pad byte, rest []byte) [32]byte {
		b := make([]byte, 64)
		copy(b, key)
		for i := range b {
			b[i] ^= pad
		}
		return sha256.Sum256(append(b, rest...))
	}
	inner := block(0x36, text)
	outer := block(0x5c, inner[:])
	return base64.StdEncoding.EncodeToString(outer[:])
}

// The example of the specification's libraries.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

var vectorTime = time.Unix(1614265330, 0)

func vectorHeader() http.Header {
	return http.Header{"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"}, "Webhook-Signature": {vectorSignature}}
}

func TestVerify(t *testing.T) {
	type change struct {
		header, value string
		body          string
		late          time.Duration
		secrets       []string
		want          error
		text          string
	}
	only := []string{vectorSecret}
	for name, c := range map[string]change{
		"the vector":         {secrets: only},
		"one of ours":        {secrets: []string{secrets[0], vectorSecret}},
		"one of theirs":      {header: "Webhook-Signature", value: "v1,AAAA v1a,x " + vectorSignature, secrets: only},
		"five minutes late":  {late: 5 * time.Minute, secrets: only},
		"five minutes early": {late: -5 * time.Minute, secrets: only},
		"late":               {late: 5*time.Minute + 1, secrets: only, want: webhook.ErrSignature, text: "too far from now"},
		"early":              {late: -5*time.Minute - 1, secrets: only, want: webhook.ErrSignature, text: "too far from now"},
		"tampered body":      {body: `{"test": 2432232315}`, secrets: only, want: webhook.ErrSignature},
		"tampered id":        {header: "Webhook-Id", value: "msg_2", secrets: only, want: webhook.ErrSignature},
		"tampered time":      {header: "Webhook-Timestamp", value: "1614265331", secrets: only, want: webhook.ErrSignature},
		"time in other form": {header: "Webhook-Timestamp", value: "+1614265330", secrets: only, want: webhook.ErrSignature},
		"no id":              {header: "Webhook-Id", secrets: only, want: webhook.ErrSignature, text: "missing"},
		"no time":            {header: "Webhook-Timestamp", secrets: only, want: webhook.ErrSignature, text: "missing"},
		"no number":          {header: "Webhook-Timestamp", value: "now", secrets: only, want: webhook.ErrSignature, text: "missing"},
		"least time":         {header: "Webhook-Timestamp", value: "-9223372036854775808", secrets: only, want: webhook.ErrSignature, text: "too far"},
		"most time":          {header: "Webhook-Timestamp", value: "9223372036854775807", secrets: only, want: webhook.ErrSignature, text: "too far"},
		"no signature":       {header: "Webhook-Signature", secrets: only, want: webhook.ErrSignature},
		"other version":      {header: "Webhook-Signature", value: strings.Replace(vectorSignature, "v1", "v2", 1), secrets: only, want: webhook.ErrSignature},
		"no version":         {header: "Webhook-Signature", value: strings.TrimPrefix(vectorSignature, "v1,"), secrets: only, want: webhook.ErrSignature},
		"other secret":       {secrets: secrets, want: webhook.ErrSignature},
		"no secret":          {want: webhook.ErrSignature},
		"a bad secret":       {secrets: []string{"whsec_x"}, want: webhook.ErrConfig},
	} {
		header, body := vectorHeader(), vectorBody
		if c.header != "" {
			header.Set(c.header, c.value)
		}
		if c.body != "" {
			body = c.body
		}
		err := webhook.Verify(header, []byte(body), vectorTime.Add(c.late), c.secrets...)
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v %q", name, err, c.want, c.text)
		}
	}
}

func TestSign(t *testing.T) {
	d := exchange(t, pushed, &webhook.HTTP{Secrets: secrets})
	if d.Header.Get("Webhook-Id") != pushed.ID {
		t.Errorf("webhook-id %q", d.Header.Get("Webhook-Id"))
	}
	seconds, err := strconv.ParseInt(d.Header.Get("Webhook-Timestamp"), 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); err != nil || age < -time.Minute || age > time.Minute {
		t.Errorf("webhook-timestamp %q", d.Header.Get("Webhook-Timestamp"))
	}
	var want []string
	for _, s := range secrets {
		k, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
		want = append(want, "v1,"+hmacByHand(k, []byte(pushed.ID+"."+d.Header.Get("Webhook-Timestamp")+"."+string(d.Body))))
	}
	if got := d.Header.Get("Webhook-Signature"); got != strings.Join(want, " ") {
		t.Errorf("webhook-signature %q, want %q", got, want)
	}
	for _, s := range secrets { // while a secret is replaced, the receiver may know either
		if err := webhook.Verify(d.Header, d.Body, time.Now(), s); err != nil {
			t.Error(err)
		}
	}
	if err := webhook.Verify(d.Header, d.Body, time.Now(), key(34)); !errors.Is(err, webhook.ErrSignature) {
		t.Errorf("another secret: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	h := vectorHeader()
	f.Add(h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature"), vectorBody)
	f.Add("", "-1", "v1,", "")
	f.Fuzz(func(t *testing.T, id, timestamp, signature, body string) {
		header := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {timestamp}, "Webhook-Signature": {signature}}
		err := webhook.Verify(header, []byte(body), vectorTime, vectorSecret)
		k, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(vectorSecret, "whsec_"))
		right := "v1," + hmacByHand(k, []byte(id+"."+timestamp+"."+body))
		signed := false
		for s := range strings.FieldsSeq(signature) {
			signed = signed || s == right
		}
		if err == nil && !signed || err != nil && !errors.Is(err, webhook.ErrSignature) {
			t.Errorf("%v although it is signed: %v", err, signed)
		}
	})
}

package watch

import (
	"fmt"

	"github.com/pullthrough/pullthrough/cache"
)

// why says in a sentence why the client got what it got.
func (p *Pull) why() string {
	switch p.Outcome {
	case Left:
		return "The client left before the answer was finished."
	case Failed:
		return p.whyFailed()
	case Refused:
		return p.whyRefused()
	case Absent:
		return p.whyAbsent()
	case Hit:
		return whyHit(p.Detail)
	case Checked:
		return whyChecked(p.Detail)
	case Stale:
		return "What is stored was served, since the source " + p.upstreamSaid() + "."
	case Miss:
		return p.whyMiss()
	}
	return "It was answered here; no source is concerned."
}

func whyHit(detail string) string {
	switch detail {
	case "copying":
		return "It is being copied and what was asked for is here already, so the source was not asked."
	case "read":
		return "It was kept when a client read it before, so the source was not asked."
	case onlyIfCached:
		return "The client wanted only what is here, so the source was not asked."
	case "known":
		return "Its size is known from a manifest, so the source was not asked."
	}
	return "It is stored here, so the source was not asked."
}

func whyChecked(detail string) string {
	switch detail {
	case "held":
		return "The tag has moved at the source, but its new digest is not admitted, so the former one was served."
	case "unchanged":
		return "The source said that the tag has not moved, so what is stored was served."
	}
	return "The source said what the tag stands for, and that was here."
}

func (p *Pull) whyMiss() string {
	switch {
	case p.Detail == "peer":
		return "It was not stored, and was sent while it came from another replica of this cache."
	case p.Detail == "collapsed":
		return "It was not stored, and was sent from a download that was under way already."
	case p.Kind == cache.AccessBlob:
		return "It was not stored, and was sent while it was downloaded from the source."
	case p.Kind == cache.AccessTags, p.Kind == cache.AccessReferrers:
		return "Lists come from the source, which was asked."
	}
	return "It was not stored, or the tag has moved, so it came from the source and is copied."
}

func (p *Pull) whyAbsent() string {
	switch {
	case p.Detail == onlyIfCached:
		return "It is not here, and the client did not want it from the source."
	case p.Rule == "":
		return "No rule covers this name, and nothing is stored under it."
	case p.Detail == "absent":
		return "The source has just said several times that it does not have it, and was not asked again."
	case p.UpstreamStatus != 0:
		return fmt.Sprintf("It is not stored, and the source %s.", p.upstreamSaid())
	}
	return "Neither this cache nor the source has it."
}

func (p *Pull) whyRefused() string {
	switch {
	case p.Detail == "held":
		return "What the tag stands for at the source is not admitted, and no former image is stored."
	case p.UpstreamStatus != 0:
		return fmt.Sprintf("Nothing is stored that could be served, and the source %s.", p.upstreamSaid())
	case p.Status == 401:
		return "This cache wants the client to prove itself."
	case p.Status == 403:
		return "This cache does not let the client have it."
	case p.Status == 405:
		return "This cache cannot be written to."
	case p.Status == 416:
		return "The range that was asked for lies outside of the content."
	case p.Status == 429:
		return "There are too many requests."
	}
	return "The request is not one that can be answered."
}

func (p *Pull) whyFailed() string {
	switch {
	case p.Status == 503:
		return "This cache could not answer now: it was busy, shutting down, or could not read its rules."
	case p.Status == 508:
		return "The request went in a circle of caches, or through too many of them."
	case p.Status >= 500 && (p.UpstreamStatus != 0 || p.Detail != ""):
		return "Nothing is stored that could be served, and the source " + p.upstreamSaid() + "."
	case p.Status >= 500:
		return "Nothing could be served; the error says why."
	}
	return "The answer broke off before its end; the error says why."
}

// upstreamSaid completes a sentence that begins with the source.
func (p *Pull) upstreamSaid() string {
	switch {
	case p.UpstreamStatus == 404:
		return "does not have it"
	case p.UpstreamStatus == 401, p.UpstreamStatus == 403:
		return fmt.Sprintf("refused the credentials of the rule, or the lack of them, with status %d", p.UpstreamStatus)
	case p.UpstreamStatus == 429:
		return "limits pulls"
	case p.UpstreamStatus != 0:
		return fmt.Sprintf("answered with status %d", p.UpstreamStatus)
	}
	switch p.Detail {
	case "budget":
		return "allows few more requests, which are kept for what is not stored"
	case "timeout":
		return "took too long to answer"
	case "unreachable":
		return "cannot be reached"
	case "limited":
		return "limits pulls, and is left alone for as long as it said"
	case "denied":
		return "refuses pulls by this rule"
	case "protocol":
		return "answered with something that cannot be used"
	case "not-found":
		return "does not have it"
	}
	return "could not be asked"
}

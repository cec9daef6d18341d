package http2

import "time"

const (
	// resetBurst streams may end early at once, and resetRate more each second:
	// each may have begun a request to an origin (rapid reset, CVE-2023-44487, and
	// with streams that the client makes us reset, CVE-2025-8671). A browser that
	// leaves a page, or closes its tunnels, ends some hundred.
	resetBurst, resetRate = 500, 20
	// noiseBurst frames that carry nothing may come at once, and noiseRate more
	// each second, beyond those that what is served explains.
	noiseBurst, noiseRate = 2000, 100
	// Each DATA frame to the client may bring two WINDOW_UPDATEs, and each request
	// a priority or two.
	noisePerData, noisePerRequest = 3, 4
	// continuationMost is the largest number of CONTINUATION frames of one block:
	// a head of a megabyte has 64.
	continuationMost = 100
)

// budget counts what a client spends. Its zero value is full.
type budget struct {
	spent         bool
	resets, noise bucket
	block         bool      // a header block is open
	begun         time.Time // when it was
	continuations int       // of it
}

// received counts a frame from the client.
func (b *budget) received(f frame, now time.Time) {
	switch f.kind {
	case frameHeaders:
		b.noise.give(noisePerRequest)
		b.open(f, now)
	case frameContinuation:
		if b.continuations++; b.continuations > continuationMost {
			b.spent = true
		}
		b.block = f.flags&flagEndHeaders == 0
	case frameReset:
		b.reset(now)
	case frameData:
		if f.length == 0 && f.flags&flagEndStream == 0 {
			b.noisy(now)
		}
	default: // SETTINGS, PING, PRIORITY, WINDOW_UPDATE and what nobody knows
		b.noisy(now)
	}
}

// sent counts a frame to the client.
func (b *budget) sent(f frame, now time.Time) {
	switch {
	case f.kind == frameData:
		b.noise.give(noisePerData)
	case f.kind == frameReset && (f.code == codeProtocol || f.code == codeFlowControl || f.code == codeStreamClosed):
		b.reset(now) // the client made us
	}
}

func (b *budget) open(f frame, now time.Time) {
	b.continuations = 0
	if b.block = f.flags&flagEndHeaders == 0; b.block {
		b.begun = now
	}
}

func (b *budget) reset(now time.Time) {
	if !b.resets.take(now, resetBurst, resetRate) {
		b.spent = true
	}
}

func (b *budget) noisy(now time.Time) {
	if !b.noise.take(now, noiseBurst, noiseRate) {
		b.spent = true
	}
}

// bucket is a token bucket, by what was taken out of it.
type bucket struct {
	taken float64
	since time.Time
}

func (b *bucket) take(now time.Time, burst, rate float64) bool {
	b.taken = max(0, b.taken-now.Sub(b.since).Seconds()*rate) + 1
	b.since = now
	return b.taken <= burst
}

// give puts tokens back, never beyond the full bucket.
func (b *bucket) give(n float64) { b.taken = max(0, b.taken-n) }

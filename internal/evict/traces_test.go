package evict_test

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
)

// request is a pull of an image, at a minute.
type request struct{ image, minute int32 }

// trace is what a cache is asked for, and the space that it has.
type trace struct {
	name     string
	requests []request
	sizes    []int64 // by image
	space    int64
	daily    map[int32]bool // the images that jobs pull each night
}

// workload makes a trace.
type workload struct {
	*trace
	rand  *rand.Rand
	scale float64 // 1 for some 100,000 requests
	days  int
}

// image makes an image. Sizes are those of real ones: half of them have less than 120 MB,
// and there are some of 200 KB and of 20 GB.
func (w *workload) image() int32 {
	size := math.Exp(math.Log(120e6) + 1.8*w.rand.NormFloat64())
	w.sizes = append(w.sizes, int64(min(max(size, 200e3), 20e9)))
	return int32(len(w.sizes) - 1)
}

func (w *workload) images(n float64) []int32 {
	images := make([]int32, int(n*w.scale))
	for i := range images {
		images[i] = w.image()
	}
	return images
}

func (w *workload) pull(image int32, day float64) {
	if day < float64(w.days) {
		w.requests = append(w.requests, request{image, int32(day * 24 * 60)})
	}
}

// zipf pulls images of which the i-th is pulled i^-alpha times as often as the first.
func (w *workload) zipf(n, alpha, pulls float64) {
	images := w.images(n)
	sums, sum := make([]float64, len(images)), 0.0
	for i := range images {
		sum += math.Pow(float64(i+1), -alpha)
		sums[i] = sum
	}
	for range int(pulls * w.scale) {
		i := sort.SearchFloat64s(sums, w.rand.Float64()*sum)
		w.pull(images[min(i, len(images)-1)], w.rand.Float64()*float64(w.days))
	}
}

// scan pulls images once that nobody wants otherwise, within eight hours of a day.
func (w *workload) scan(n float64, days ...float64) {
	for _, day := range days {
		images := w.images(n)
		for i, image := range images {
			w.pull(image, day+float64(i)/float64(len(images))/3)
		}
	}
}

// jobs pull the same images each night.
func (w *workload) jobs(n float64) {
	images := w.images(n)
	w.daily = map[int32]bool{}
	for _, image := range images {
		w.daily[image] = true
	}
	for day := range w.days {
		for i, image := range images {
			w.pull(image, float64(day)+(2+float64(i)/float64(len(images))+w.rand.Float64()/2)/24)
		}
	}
}

// drift brings new images each day. Each is pulled some times, and fewer times each day.
func (w *workload) drift(perDay, uses, life float64) {
	for day := range w.days {
		for _, image := range w.images(perDay) {
			born := float64(day) + w.rand.Float64()
			for w.pull(image, born); w.rand.Float64() > 1/uses; {
				w.pull(image, born+w.rand.ExpFloat64()*life)
			}
		}
	}
}

// bursts pull images many times within an hour, and some of them a week later.
func (w *workload) bursts(n float64, most int, again float64) {
	for _, image := range w.images(n) {
		day := w.rand.Float64() * float64(w.days)
		for range 1 + w.rand.IntN(most) {
			w.pull(image, day+w.rand.Float64()/36)
		}
		if w.rand.Float64() < again {
			w.pull(image, day+w.rand.ExpFloat64()*7)
		}
	}
}

// loop pulls the same images in the same order, again and again, as mirrors do.
func (w *workload) loop(n, days float64) {
	images := w.images(n)
	for day := 0.0; day < float64(w.days); day += days {
		for i, image := range images {
			w.pull(image, day+float64(i)/float64(len(images))*days)
		}
	}
}

// mix is a bit of all.
func (w *workload) mix() {
	w.zipf(5000, 0.9, 40000)
	w.jobs(300)
	w.drift(50, 8, 4)
	w.bursts(4000, 30, 0.2)
	w.scan(10000, 20, 40)
}

// workloads are the traces by name. Space is a part of the bytes of all images.
var workloads = []struct {
	name  string
	space float64
	make  func(w *workload)
}{
	{"zipf 0.8", 0.10, func(w *workload) { w.zipf(10000, 0.8, 100000) }},
	{"zipf 1.0", 0.05, func(w *workload) { w.zipf(10000, 1.0, 100000) }},
	{"zipf, scans", 0.03, func(w *workload) { w.zipf(5000, 0.9, 60000); w.scan(10000, 5, 19, 33, 47) }},
	{"daily, scans", 0.02, func(w *workload) { w.jobs(300); w.zipf(3000, 0.7, 20000); w.scan(10000, 6, 15, 24, 33, 42, 51) }},
	{"drift", 0.10, func(w *workload) { w.drift(100, 10, 4) }},
	{"fast drift", 0.03, func(w *workload) { w.drift(150, 5, 1) }},
	{"drift, scans", 0.03, func(w *workload) { w.drift(100, 10, 4); w.scan(5000, 6, 15, 24, 33, 42, 51) }},
	{"bursts", 0.05, func(w *workload) { w.bursts(10000, 50, 0.3); w.zipf(2000, 0.9, 20000) }},
	{"loop", 0.25, func(w *workload) { w.loop(1000, 1.25); w.zipf(2000, 0.9, 20000) }},
	{"mix, small", 0.01, (*workload).mix},
	{"mix", 0.04, (*workload).mix},
	{"mix, large", 0.15, (*workload).mix},
}

// traces makes the traces.
func traces(seed uint64, scale float64) []*trace {
	var all []*trace
	for _, l := range workloads {
		w := &workload{trace: &trace{name: l.name}, rand: rand.New(rand.NewPCG(seed, 13)), scale: scale, days: 60}
		l.make(w)
		slices.SortStableFunc(w.requests, func(a, b request) int { return cmp.Compare(a.minute, b.minute) })
		sum := 0.0
		for _, size := range w.sizes {
			sum += float64(size)
		}
		w.space = int64(sum * l.space)
		all = append(all, w.trace)
	}
	return all
}

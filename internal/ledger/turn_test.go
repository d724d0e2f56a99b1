package ledger

import (
	"strings"
	"testing"

	"github.com/pullthrough/pullthrough/upstream"
)

// TestTurns: "a" queues an entry of rule a, "A" one that comes before others of its
// rule; "+" takes the next turn, "-x" ends one of rule x.
func TestTurns(t *testing.T) {
	for _, c := range []struct {
		name, story, want string
		slots             int
		alone             bool
	}{
		{"in order", "a a a + + +", "a1 a2 a3", 4, true},
		{"no more than the slots", "a a a + + +", "a1 a2 none", 2, true},
		{"a slot comes back", "a a + + -a +", "a1 none a2", 1, true},
		{"the rule that runs fewest", "a a a a b + + +", "a1 b5 a2", 4, false},
		{"a quarter is left to others", "a a a a + + + +", "a1 a2 a3 none", 4, false},
		{"and goes to them", "a a a a + + + b +", "a1 a2 a3 b5", 4, false},
		{"an index whose image came", "a a A + + +", "a0 a1 a2", 4, true},
		{"but not before a rule that runs fewer", "a + A b + +", "a1 b2 a0", 4, false},
		{"among equals the one that waits longest", "b a c + + +", "b1 a2 c3", 4, false},
		{"nothing is queued", "+", "none", 4, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			turns := turns{queues: map[string][]*entry{}, running: map[string]int{}}
			var got []string
			for step := range strings.FieldsSeq(c.story) {
				switch {
				case step == "+":
					e := turns.next(c.slots, c.alone)
					if e == nil {
						got = append(got, "none")
						continue
					}
					e.state = Running
					turns.took(e.job.Source.Rule)
					got = append(got, e.job.Source.Rule+string(rune('0'+e.serial)))
				case step[0] == '-':
					turns.gave(step[1:])
				default:
					rule := strings.ToLower(step)
					turns.add(&entry{state: Queued, job: Job{Source: upstream.Source{Rule: rule}}}, step != rule)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%s, want %s", s, c.want)
			}
		})
	}
}

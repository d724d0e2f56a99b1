package inbound

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

const (
	maxFile = 8 << 20 // bytes of a htpasswd file, which is about 100,000 users
	maxName = 255     // bytes of a user's name
	maxCost = 15      // of bcrypt: two seconds or more of a core for each login
)

// Passwords are the users of a htpasswd file, with bcrypt hashes, as htpasswd -B writes it.
// A Passwords must not be copied. It is safe for concurrent use.
type Passwords struct {
	// Path is the file.
	Path string

	users atomic.Pointer[passwordFile]
}

// passwordFile is what the file said when it was read last.
type passwordFile struct {
	hashes map[string][]byte
	cost   int // the highest one
}

// A Fault is a mistake in a file, at a line. It does not contain what the line says.
type Fault struct {
	Path string
	Line int
	Text string
}

// Error returns PATH:LINE: TEXT.
func (f *Fault) Error() string { return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Text) }

// Load reads the file. If it cannot be read or has mistakes, the users stay as they are, and the
// error has every mistake as a [*Fault], joined.
func (p *Passwords) Load() error {
	data, err := readFile(p.Path)
	if err != nil {
		return err
	}
	parsed, err := parsePasswords(p.Path, data)
	if err != nil {
		return err
	}
	p.users.Store(parsed)
	return nil
}

// readFile reads a file of a sensible size.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

// bcryptHash is the form of a hash that is accepted.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

// parsePasswords reads lines of USER:HASH. Empty lines and lines that begin with # say nothing.
func parsePasswords(path string, data []byte) (*passwordFile, error) {
	file := &passwordFile{hashes: map[string][]byte{}}
	lines := map[string]int{}
	var faults []error
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text := strings.TrimRight(string(line), "\r\n \t")
		if text == "" || text[0] == '#' {
			continue
		}
		add := func(format string, args ...any) {
			faults = append(faults, &Fault{path, number, fmt.Sprintf(format, args...)})
		}
		user, hash, ok := strings.Cut(text, ":")
		found := bcryptHash.FindStringSubmatch(hash)
		switch {
		case !ok:
			add("USER:HASH is expected; add users with: htpasswd -B %s USER", path)
		case user == "" || len(user) > maxName || strings.ContainsFunc(user, func(c rune) bool { return c < ' ' || c == 0x7f }):
			add("this cannot be the name of a user: it has 1 to %d bytes and no control characters", maxName)
		case lines[user] != 0:
			add("user %q is in line %d too; keep one", user, lines[user])
		case found == nil:
			add("the password of user %q is %s, and only bcrypt is accepted; make it anew with: htpasswd -B %s %s", user, algorithm(hash), path, user)
		case found[1] < "04" || found[1] > fmt.Sprint(maxCost):
			add("the bcrypt cost of user %q is %s; 4 to %d are accepted: htpasswd -B -C 10 %s %s", user, found[1], maxCost, path, user)
		default:
			lines[user] = number
			file.hashes[user] = []byte(hash)
			file.cost = max(file.cost, int(found[1][0]-'0')*10+int(found[1][1]-'0'))
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return file, nil
}

// algorithm says how a password is kept, without the password.
func algorithm(hash string) string {
	for prefix, name := range map[string]string{
		"$apr1$": "hashed with MD5", "$1$": "hashed with MD5", "{SHA}": "hashed with SHA-1", "$5$": "hashed with SHA-256", "$6$": "hashed with SHA-512",
		"$2": "a damaged bcrypt hash", "$argon2": "hashed with Argon2", "$y$": "hashed with yescrypt",
	} {
		if strings.HasPrefix(hash, prefix) {
			return name
		}
	}
	return "hashed with crypt, or not at all"
}

// names returns the users in order.
func (p *Passwords) names() []string {
	var all []string
	if p == nil {
		return nil
	}
	if file := p.users.Load(); file != nil {
		for name := range file.hashes {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// hash returns the hash of a user. For an unknown user it is one that no password has, of the same
// cost, so that the time of a refusal does not tell who is known.
func (p *Passwords) hash(user string) (hash []byte, known bool) {
	cost := 10
	if p != nil {
		if file := p.users.Load(); file != nil {
			if hash, known = file.hashes[user]; known {
				return hash, true
			}
			cost = max(file.cost, 4)
		}
	}
	return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat("q", 53)), false
}

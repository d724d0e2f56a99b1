// Package load is the client of the comparisons. It costs as little as a client can, so
// that on a machine that it shares with the servers the difference between them shows,
// and it checks what it gets: every byte of something small while it is measured; of
// large blobs the length while they are measured, and the digest in a pull of its own.
package load

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"syscall"
)

// accept is what the clients of registries accept.
const accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*"

// request makes the bytes of a GET.
func request(addr, path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: bench\r\nAccept: " + accept + "\r\n\r\n")
}

// head is what counts of the header of a response.
type head struct {
	status  int
	length  int64 // -1 if it is chunked
	closing bool
}

// conn is a connection that sends one request at a time.
type conn struct {
	addr string
	tcp  *net.TCPConn
	raw  syscall.RawConn
	br   *bufio.Reader
	stop func() bool
	// closing is set if the server ends the connection after this response.
	closing bool
}

// dial connects, and ends the connection when ctx ends.
func dial(ctx context.Context, addr string) (*conn, error) {
	c := &conn{addr: addr}
	return c, c.redial(ctx)
}

func (c *conn) redial(ctx context.Context) error {
	plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.tcp = plain.(*net.TCPConn)
	if c.raw, err = c.tcp.SyscallConn(); err != nil {
		return err
	}
	c.br, c.closing = bufio.NewReaderSize(c.tcp, 8<<10), false
	c.stop = context.AfterFunc(ctx, func() { plain.Close() })
	return nil
}

func (c *conn) close() {
	c.stop()
	c.tcp.Close()
}

// ask sends a request and reads the header of its response, which must be 200.
func (c *conn) ask(ctx context.Context, request []byte) (head, error) {
	if c.closing {
		c.close()
		if err := c.redial(ctx); err != nil {
			return head{}, err
		}
	}
	if _, err := c.tcp.Write(request); err != nil {
		return head{}, err
	}
	h, err := c.readHead()
	if err == nil && h.status != 200 {
		text, _ := io.ReadAll(io.LimitReader(c.br, min(max(h.length, 0), 300)))
		err = fmt.Errorf("status %d: %s", h.status, bytes.TrimSpace(text))
	}
	c.closing = h.closing
	return h, err
}

// readHead reads status and header.
func (c *conn) readHead() (head, error) {
	h := head{length: -1}
	line, err := c.br.ReadSlice('\n')
	if err != nil {
		return h, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return h, fmt.Errorf("no response of HTTP/1.1: %.60q", line)
	}
	if h.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return h, fmt.Errorf("no status: %.60q", line)
	}
	chunked := false
	for {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return h, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if h.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || h.length < 0 {
				return h, fmt.Errorf("wrong Content-Length: %.60q", line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			h.closing = bytes.EqualFold(value, []byte("close"))
		}
	}
	if chunked == (h.length >= 0) {
		return h, fmt.Errorf("a response that is neither chunked nor of known length, or both")
	}
	return h, nil
}

// body returns a reader of the body, which must be read to its end.
func (c *conn) body(h head) io.Reader {
	if h.length >= 0 {
		return io.LimitReader(c.br, h.length)
	}
	return io.MultiReader(httputil.NewChunkedReader(c.br), trailer{c.br})
}

// trailer reads the empty line after the last chunk, and has no bytes.
type trailer struct{ br *bufio.Reader }

func (t trailer) Read([]byte) (int, error) {
	line, err := t.br.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(bytes.TrimSpace(line)) != 0 {
		return 0, fmt.Errorf("a trailer: %.60q", line)
	}
	return 0, io.EOF
}

// small reads a body into buf, which grows as needed.
func (c *conn) small(h head, buf []byte) ([]byte, error) {
	if h.length < 0 {
		return io.ReadAll(c.body(h))
	}
	if int64(cap(buf)) < h.length {
		buf = make([]byte, h.length)
	}
	buf = buf[:h.length]
	_, err := io.ReadFull(c.br, buf)
	return buf, err
}

// discard has the kernel throw a body away (MSG_TRUNC), and returns its length.
func (c *conn) discard(h head) (int64, error) {
	if h.length < 0 {
		return io.Copy(io.Discard, c.body(h))
	}
	first, err := c.br.Discard(int(min(h.length, int64(c.br.Buffered()))))
	done := int64(first)
	for err == nil && done < h.length {
		var n int
		n, err = c.truncate(h.length - done)
		done += int64(n)
	}
	return done, err
}

// truncate has the kernel throw some bytes away, most at most. There is no buffer, since
// nothing is written to it.
func (c *conn) truncate(most int64) (int, error) {
	var n uintptr
	var errno syscall.Errno
	waited := c.raw.Read(func(fd uintptr) bool {
		n, _, errno = syscall.Syscall6(syscall.SYS_RECVFROM, fd, 0, uintptr(min(most, 1<<20)), syscall.MSG_TRUNC, 0, 0)
		return errno != syscall.EAGAIN && errno != syscall.EINTR
	})
	switch {
	case waited != nil:
		return 0, waited
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return int(n), nil
}

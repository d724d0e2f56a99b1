package store

import (
	"bufio"
	"bytes"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

// An entry of a log of records is
//
//	put KEY LENGTH CHECKSUM
//	the data
//
// with a newline at the end of both, so that a log can be read with cat. The
// length is decimal. The checksum is the CRC-32C of key, length and data, in eight hex
// digits. An entry that no longer counts begins with "del". Of two entries for one key
// the later one counts.
const (
	entryLive    = "put"
	entryDeleted = "del"
	maxHead      = 3 + 1 + 128 + 1 + 19 + 1 + 8 + 1
)

func entrySum(key, length string, data []byte) string {
	// The table is made once, by the library.
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, []byte(key+" "+length+" "))
	s := strconv.FormatUint(uint64(crc32.Update(sum, table, data)), 16)
	return strings.Repeat("0", 8-len(s)) + s
}

// sealEntry returns the bytes of an entry and its parts.
func sealEntry(key string, data []byte) ([]byte, span) {
	length := strconv.Itoa(len(data))
	b := make([]byte, 0, maxHead+len(data)+1)
	b = append(append(b, entryLive...), ' ')
	b = append(append(b, key...), ' ')
	b = append(append(b, length...), ' ')
	b = append(append(b, entrySum(key, length, data)...), '\n')
	s := span{head: len(b), data: len(data)}
	b = append(append(b, data...), '\n')
	return b, s
}

// readEntries calls found with every entry that counts, in order. It returns where the
// first entry begins that is not whole, or else the end.
func readEntries(f *os.File, found func(key string, s span)) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, st.Size()), 64<<10)
	var at int64
	for {
		op, key, s, err := readEntry(in, st.Size()-at)
		if err != nil {
			return at, err
		}
		if op == "" {
			return at, nil
		}
		s.at = at
		if op == entryLive {
			found(key, s)
		}
		at += s.size()
	}
}

// readEntry returns op "" if there is no whole entry within left bytes.
func readEntry(in *bufio.Reader, left int64) (op, key string, s span, err error) {
	line, err := in.ReadSlice('\n')
	if err == io.EOF || err == bufio.ErrBufferFull {
		return "", "", s, nil
	}
	if err != nil {
		return "", "", s, err
	}
	fields := strings.Split(string(bytes.TrimSuffix(line, []byte("\n"))), " ")
	if len(fields) != 4 || fields[0] != entryLive && fields[0] != entryDeleted || checkKey(fields[1]) != nil {
		return "", "", s, nil
	}
	n, perr := strconv.Atoi(fields[2])
	if perr != nil || n < 0 || int64(len(line))+int64(n)+1 > left {
		return "", "", s, nil
	}
	s = span{head: len(line), data: n}
	data := make([]byte, n+1)
	if _, err := io.ReadFull(in, data); err != nil {
		return "", "", s, err
	}
	if data[n] != '\n' || entrySum(fields[1], fields[2], data[:n]) != fields[3] {
		return "", "", s, nil
	}
	return fields[0], fields[1], s, nil
}

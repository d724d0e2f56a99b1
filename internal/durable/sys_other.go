//go:build !unix

package durable

import (
	"errors"
	"io/fs"
	"os"
)

// Systems other than Unix are not supported. Lock says so before any of these functions
// is called; they only have to compile.

func writeNew(string, []byte, bool) error { return errors.ErrUnsupported }
func datasync(*os.File) error             { return errors.ErrUnsupported }
func rename(string, string) error         { return errors.ErrUnsupported }
func remove(string) error                 { return errors.ErrUnsupported }
func syncFolder(string) error             { return errors.ErrUnsupported }

// OpenRead opens a file and returns its size.
func OpenRead(string) (*os.File, int64, error) { return nil, 0, errors.ErrUnsupported }

// OpenWrite opens a file for reading and writing.
func OpenWrite(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// CheckOwn checks a folder.
func CheckOwn(string, bool) error { return errors.ErrUnsupported }

// Used returns how many bytes of the disk a file takes.
func Used(st fs.FileInfo) int64 { return st.Size() }

// Size returns the size of a file.
func Size(string) (int64, error) { return 0, errors.ErrUnsupported }

// IsFull reports whether err says that the disk is full.
func IsFull(error) bool { return false }

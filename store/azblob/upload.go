package azblob

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/pullthrough/pullthrough/internal/objectstore"
)

// upload is a blob that is written in blocks.
//
// At Azure, the uncommitted blocks of a blob are shared by all who write it, and a commit
// discards those that it does not name. So a block is named by its place and its hash:
// writers of the same content name the same blocks, writers of other content never name one
// another's, and a writer that tries again replaces what is there instead of adding to it. What a
// commit of others has discarded is refused as InvalidBlockList when it is committed.
type upload struct {
	b      *bucket
	key    string
	blocks []string
	mark   mark
	done   bool // completed or aborted
}

// Begin implements [objectstore.Bucket]. It sends no request.
func (b *bucket) Begin(ctx context.Context, key string) (objectstore.Upload, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &upload{b: b, key: key, mark: newMark()}, nil
}

// blockID names a block. All IDs of a blob must have the same length, which is 48.
func blockID(place int, data []byte) string {
	hash := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, uint32(place)), hash[:]...))
}

// Part implements [objectstore.Upload].
func (u *upload) Part(ctx context.Context, data []byte) error {
	if u.done {
		return fmt.Errorf("%s/%s: %w", u.b, u.key, os.ErrClosed)
	}
	short, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	id := blockID(len(u.blocks), data)
	_, err := u.b.blob(u.key).StageBlock(short, id, newPayload(data), nil)
	if err != nil {
		return u.b.fail(ctx, u.key, err)
	}
	u.blocks = append(u.blocks, id)
	return nil
}

// Complete implements [objectstore.Upload].
func (u *upload) Complete(ctx context.Context, cond objectstore.Condition) error {
	if u.done {
		return fmt.Errorf("%s/%s: %w", u.b, u.key, os.ErrClosed)
	}
	short, cancel := context.WithTimeout(ctx, smallTimeout)
	defer cancel()
	_, err := u.b.blob(u.key).CommitBlockList(short, u.blocks, &blockblob.CommitBlockListOptions{
		AccessConditions: conditions(cond), Metadata: u.mark.metadata(cond),
	})
	err = u.b.written(ctx, u.key, u.mark, cond, u.b.fail(ctx, u.key, err))
	u.done = err == nil
	return err
}

// Abort implements [objectstore.Upload]. The blocks stay for a week, since nothing deletes
// them alone, and are used again if the same content is uploaded before.
func (u *upload) Abort(context.Context) error {
	u.done = true
	return nil
}

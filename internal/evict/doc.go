// Package evict decides which images a cache gives up when space is short. It is
// arithmetic: it reads no store, starts nothing, and is told what time it is.
//
// The cache describes its images to a [Graph], which makes a [Plan] of what has to go for
// the [Limits], and deletes by the plan. For each image it keeps a [Use] in its store, and
// in memory, if it likes, [Ghosts].
//
// # What is known of an image
//
// A Use has three things: the hour of the last use, how often the image was used again
// since it was stored (up to seven times), and the usual pause between two uses. Uses
// within one hour are one use: a fleet that pulls an image at once says no more about next
// week than one machine does.
//
// The coldness of an image is how long it does without a use: the pause since its last use,
// or its usual pause if that is longer, divided by the root of the number of its uses. What
// is pulled every day stays as cold as a day, however long ago it was stored, until it is
// not pulled any more.
//
// # What goes first
//
// An image that was never used again since it was stored is on probation; the others are
// proven. Most images are pulled once, and a mirror or a scanner pulls thousands of them in
// an hour, so images on probation have an eighth of the space for certain and no more:
//
//   - While they have more, one of them goes: of the rule that has most bytes on probation,
//     the one that was stored first. So the flood of one rule drives out the flood. One that
//     takes more than the eighth by itself goes before those that would go for it.
//   - Otherwise the coldest image of all goes, proven or not. Of proven images that are
//     equally cold the largest goes.
//   - The image that was stored last goes when all else has gone, unless it takes more than
//     the eighth: a cache that is full must not drop what it has just copied.
//   - An image that is larger than the whole space goes before all others.
//
// An image on probation that is given up may be one that is pulled every month. Ghosts
// remembers such images for a while; one that is stored again is proven at once. That also
// keeps a part of what is pulled in turn, in a space that is too small for all of it, where
// giving up the coldest would always give up what is needed next.
//
// This is the idea of S3-FIFO (Yang and others, SOSP 2023), a small queue for what is new,
// a main queue, and ghosts, made for a cache that looks at all its images now and then
// rather than at one with each miss. It needs no queue on disk: a warm pull writes nothing
// but a Use, at most once an hour.
//
// # What goes together
//
// What an image shares with others is freed with the last of them; sizes count each
// content once. An index stays while one of its children does that no other index names,
// and goes with the last one, so that it never stays for nothing; until then its children
// go one by one. What refers to an image, such as a signature, goes with it, and what
// refers to that, unless it is pinned or an index with children of its own. What goes
// together is as cold as the one of it that is least so: an image whose index is asked for
// every day is in use. What a pinned index names is pinned.
//
// # Limits
//
// First goes what was not used for longer than the age, then what a rule has beyond its
// limit, of its own images, and then what all have beyond theirs. A plan goes down to the
// low mark of a limit, so that the next image does not need another one, and ends with the
// step that gets there. If it cannot get there, because what is left is pinned, it says so.
package evict

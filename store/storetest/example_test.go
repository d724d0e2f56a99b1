package storetest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/store"
	"github.com/pullthrough/pullthrough/store/storetest"
)

func Example() {
	broken := 0
	for _, c := range storetest.Checks() {
		err := c.Func(context.Background(), new(store.Mem))
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			fmt.Printf("%s: %v\nThe law: %s\n", c.Name, err, c.Law)
			broken++
		}
	}
	fmt.Println(broken, "laws are broken")
	// Output: 0 laws are broken
}

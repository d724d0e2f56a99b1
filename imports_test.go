package pullthrough_test

import (
	"go/parser"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tools are the internal packages that know nothing of what this library does. Every
// package may import them, and they import one another alone.
var tools = strings.Fields(`
	internal/acr internal/arm internal/ask internal/backoff internal/crew internal/durable internal/evict internal/gate internal/index
	internal/lru
	internal/netdepth internal/oci internal/ociname internal/recordset internal/retryafter internal/route
	internal/share`)

// mayImport says of each other package which ones it may import besides the tools.
// Examples may import everything, and nothing imports them.
var mayImport = map[string]string{
	".":       "",
	"auth":    "",
	"store":   "",
	"webhook": "",

	"auth/azure":      "auth",
	"upstream":        "auth",
	"rule":            "auth upstream",
	"internal/flight": "store upstream",
	"internal/origin": "auth internal/flight rule upstream",
	"internal/ledger": "upstream webhook",

	// The part that store/s3 and store/azblob share, which are modules of their own.
	"internal/objectstore": "store",

	"cache": "auth internal/flight internal/ledger internal/origin rule store upstream webhook",

	"cache/fleet": "auth cache store upstream",

	// For tests. No package above imports one of them.
	"internal/fakeserver":             "",
	"auth/azuretest":                  "internal/fakeserver upstream/upstreamtest",
	"store/storetest":                 "store",
	"internal/objectstore/buckettest": "internal/objectstore store",
	"upstream/upstreamtest":           "internal/fakeserver upstream",
	"webhook/webhooktest":             "internal/fakeserver webhook",
	"cache/cachetest":                 "cache rule store upstream/upstreamtest",
	"internal/soak":                   "",
}

// TestImportsGoOneWay: what each room of the house may know of the others.
func TestImportsGoOneWay(t *testing.T) {
	_, folders := sources(t, parser.ImportsOnly)
	for folder, files := range folders {
		if strings.HasPrefix(folder, "examples/") {
			continue
		}
		allowed, known := mayImport[folder]
		if isTool := slices.Contains(tools, folder); known == isTool {
			t.Errorf("%s is in neither list above, or in both: say what it may import", folder)
		}
		for _, file := range files {
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				ours, ok := strings.CutPrefix(imported, module+"/")
				if ok && !slices.Contains(tools, ours) && !slices.Contains(strings.Fields(allowed), ours) {
					t.Errorf("%s imports %s, which it may not know", folder, ours)
				}
			}
		}
	}
	for folder := range mayImport {
		if len(folders[folder]) == 0 {
			t.Errorf("%s is listed and does not exist", folder)
		}
	}
}

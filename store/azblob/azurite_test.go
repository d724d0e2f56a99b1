package azblob

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pullthrough/pullthrough/auth"
)

// The account that every Azurite has, with its public key.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// azurite is one Azurite for all tests, which ends with the process of the tests.
var azurite struct {
	sync.Once
	url string
	err error
	cmd *exec.Cmd
}

var containers atomic.Int64

// azuriteContainer returns a new container of Azurite, the script azurite-blob at
// PULLTHROUGH_AZURITE or in the path. Without it, the test is skipped.
func azuriteContainer(t *testing.T) *container.Client {
	script, err := exec.LookPath(cmp.Or(os.Getenv("PULLTHROUGH_AZURITE"), "azurite-blob"))
	if err != nil && os.Getenv("PULLTHROUGH_AZURITE") == "" {
		t.Skip("there is no azurite-blob; PULLTHROUGH_AZURITE may say where it is")
	}
	azurite.Do(func() { azurite.url, azurite.err = startAzurite(script) })
	if azurite.err != nil {
		t.Fatal(azurite.err)
	}
	name := fmt.Sprintf("images-%d", containers.Add(1))
	cs := fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s/%[1]s;", azuriteAccount, azuriteKey, azurite.url)
	c, err := NewClient(ClientOptions{ConnectionString: auth.NewSensitive(cs), Container: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// startAzurite starts Azurite in memory, at a port of its choice.
func startAzurite(script string) (string, error) {
	cmd := exec.CommandContext(context.Background(), script,
		"--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent", "--disableTelemetry",
		"--skipApiVersionCheck") // the SDK may be newer
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	azurite.cmd = cmd
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, url, ok := strings.Cut(lines.Text(), "listens on "); ok {
			return url, nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	return "", fmt.Errorf("Azurite ended before it listened: %v: %s", cmd.Wait(), said.String())
}

func TestMain(m *testing.M) {
	code := m.Run()
	if azurite.cmd != nil {
		_ = azurite.cmd.Process.Kill()
		_ = azurite.cmd.Wait()
	}
	os.Exit(code)
}

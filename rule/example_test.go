package rule_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pullthrough/pullthrough/rule"
)

func Example() {
	rules, err := rule.NewSet(
		rule.Rule{Name: "docker-hub", Source: "docker.io/*", Target: "hub/*"},
		rule.Rule{Name: "sdk", Source: "mcr.microsoft.com/dotnet/sdk", Target: "sdk"},
	)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"hub/alpine", "hub/grafana/loki", "sdk", "other"} {
		m, err := rules.Match(context.Background(), name)
		if errors.Is(err, rule.ErrNoMatch) {
			fmt.Println(name, "is not covered")
			continue
		}
		fmt.Println(m.Repository, "comes from", m.Source, "by rule", m.Rule.Name)
	}
	// Output:
	// hub/library/alpine comes from docker.io/library/alpine by rule docker-hub
	// hub/grafana/loki comes from docker.io/grafana/loki by rule docker-hub
	// sdk comes from mcr.microsoft.com/dotnet/sdk by rule sdk
	// other is not covered
}

// One error has all faults, with ACR's codes: here those of a rule without credentials,
// whose target also lies inside that of another.
func ExampleOptions() {
	table := append(rule.ACR(), rule.Upstream{Host: "registry.contoso.com", Auth: rule.AuthOptional})
	_, err := rule.Options{Strict: true, Upstreams: table}.NewSet(
		rule.Rule{Name: "contoso", Source: "registry.contoso.com/*", Target: "contoso/*"},
		rule.Rule{Name: "docker-hub", Source: "docker.io/*", Target: "contoso/hub/*"},
	)
	fmt.Println(errors.Is(err, rule.CodeDockerAuthentication), errors.Is(err, rule.CodeOverlap))
	// Output: true true
}

func ExampleResource() {
	var r rule.Resource
	err := json.Unmarshal([]byte(`{"properties":{"sourceRepository":"quay.io/team/*","targetRepository":"team/*"}}`), &r)
	if err != nil {
		panic(err)
	}
	one, err := r.Rule("quay-team", nil)
	fmt.Println(one.Name, one.Source, one.Target, err)
	// Output: quay-team quay.io/team/* team/* <nil>
}

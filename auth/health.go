package auth

import "time"

// HealthStatus is one of [Healthy] and [Unhealthy], as ACR writes them.
type HealthStatus string

// What a [CredentialSet] can be.
const (
	Healthy   HealthStatus = "Healthy"
	Unhealthy HealthStatus = "Unhealthy"
)

// HealthCode says why a [CredentialSet] is unhealthy.
type HealthCode string

// Why a set is unhealthy. ACR documents no codes; these are ours.
const (
	CodeUsername HealthCode = "UsernameSecretNotReadable"
	CodePassword HealthCode = "PasswordSecretNotReadable"
	CodeRefused  HealthCode = "CredentialRefused"
)

// Health is how a [CredentialSet] fares, with the JSON names of ACR's
// credentialHealth. It holds no secret. The zero value: it was never used.
type Health struct {
	Status HealthStatus `json:"status,omitempty"`
	// Code is empty when healthy.
	Code HealthCode `json:"errorCode,omitempty"`
	// Message says more, for the people who run the cache.
	Message string `json:"errorMessage,omitempty"`
	// Since is when Status or Code became what they are.
	Since time.Time `json:"since,omitzero"`
}

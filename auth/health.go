package auth

import "time"

// HealthStatus is [Healthy] or [Unhealthy], as ACR spells them.
type HealthStatus string

// The statuses of a [CredentialSet].
const (
	Healthy   HealthStatus = "Healthy"
	Unhealthy HealthStatus = "Unhealthy"
)

// HealthCode says why a [CredentialSet] is unhealthy.
type HealthCode string

// The codes of an unhealthy set. They are not of ACR, which documents none.
const (
	CodeUsername HealthCode = "UsernameSecretNotReadable"
	CodePassword HealthCode = "PasswordSecretNotReadable"
	CodeRefused  HealthCode = "CredentialRefused"
)

// Health is the health of a [CredentialSet], with the JSON names of ACR's
// credentialHealth. It holds no secret. The zero value is that of a set that was never
// used.
type Health struct {
	Status HealthStatus `json:"status,omitempty"`
	// Code is empty when healthy.
	Code HealthCode `json:"errorCode,omitempty"`
	// Message describes the failure to operators of the cache.
	Message string `json:"errorMessage,omitempty"`
	// Since is when Status or Code last changed.
	Since time.Time `json:"since,omitzero"`
}

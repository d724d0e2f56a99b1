package rule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxResourceSize is the size of the largest valid resource, in bytes.
const MaxResourceSize = 64 << 10

// Succeeded is the provisioning state of a rule that is in force.
const Succeeded = "Succeeded"

// Resource is a cache rule in the shape of Azure's resource model
// (Microsoft.ContainerRegistry/registries/cacheRules). Its JSON is that of ACR. An
// unknown field is an error, since a field without effect must not look as if it were in
// force.
//
// A Resource is a plain value; [Resource.Rule] and [NewResource] turn it into a
// [Rule] and back.
type Resource struct {
	// ID and Name are empty in the body of a request.
	ID, Name string
	// SourceRepository begins with the login server; TargetRepository has none.
	SourceRepository, TargetRepository string
	// CredentialSetID is the resource id of a credential set. If empty, there is none.
	CredentialSetID string
	// IdentityID is the resource id of the one user-assigned identity. If empty,
	// there is none. The other properties of the identity in a response are not kept.
	IdentityID string
	// Additional is the JSON of additionalAuthenticationProperties, or nil if there
	// is none.
	Additional json.RawMessage
	// CreationDate and ProvisioningState are read-only for clients of ACR. They are
	// kept unchanged.
	CreationDate, ProvisioningState string
}

// resourceType is the type of cache rules in ARM.
const resourceType = "Microsoft.ContainerRegistry/registries/cacheRules"

// UnmarshalJSON parses a resource of at most [MaxResourceSize]. Its error joins one
// [*Error] for each fault, with [CodeProperty] or [CodeAuthenticationConflict] and the
// path of the field.
func (r *Resource) UnmarshalJSON(data []byte) error {
	f := &faults{}
	if len(data) > MaxResourceSize {
		f.add(CodeProperty, "", "The resource has %d bytes; %d are allowed.", len(data), MaxResourceSize)
		return f.err()
	}
	top := f.object("", data)
	var read Resource
	read.ID, read.Name = top.text("id"), top.text("name")
	if t := top.text("type"); t != "" && !strings.EqualFold(t, resourceType) {
		f.add(CodeProperty, "type", "The type '%s' is not '%s'.", shorten(t), resourceType)
	}
	top.take("systemData") // ARM writes it; it names the last callers
	f.rule = read.Name
	read.readProperties(f, top)
	read.readIdentity(f, top)
	top.end()
	if read.IdentityID != "" && read.CredentialSetID != "" {
		f.conflict("a managed identity and a credential set")
	}
	if err := f.err(); err != nil {
		return err
	}
	*r = read
	return nil
}

func (f *faults) conflict(what string) {
	f.add(CodeAuthenticationConflict, "identity", "Cache rule may not have both %s: they are mutually exclusive.", what)
}

func (r *Resource) readProperties(f *faults, top *object) {
	raw := top.take("properties")
	if raw == nil {
		f.add(CodeProperty, "properties", "The property is missing.")
		return
	}
	p := f.object("properties", raw)
	r.SourceRepository, r.TargetRepository = p.needed("sourceRepository"), p.needed("targetRepository")
	r.CredentialSetID = p.text("credentialSetResourceId")
	r.CreationDate, r.ProvisioningState = p.text("creationDate"), p.text("provisioningState")
	if raw := p.take("additionalAuthenticationProperties"); raw != nil {
		r.Additional = raw
		f.object(p.path("additionalAuthenticationProperties"), raw) // for its faults
	}
	p.end()
}

func (r *Resource) readIdentity(f *faults, top *object) {
	raw := top.take("identity")
	if raw == nil {
		return
	}
	o := f.object("identity", raw)
	o.text("principalId")
	o.text("tenantId")
	kind, assigned := o.text("type"), o.take("userAssignedIdentities")
	o.end()
	var ids []string
	if assigned != nil {
		m := f.object(o.path("userAssignedIdentities"), assigned)
		ids = slices.Sorted(maps.Keys(m.fields))
		for _, id := range ids { // null would mean to remove it
			f.object(m.path(id), m.fields[id])
		}
	}
	switch {
	case kind == "None" && len(ids) == 0:
	case kind != "UserAssigned":
		f.add(CodeProperty, "identity.type", "The type '%s' is not supported; a cache rule may have one user-assigned identity: 'UserAssigned'.", shorten(kind))
	case len(ids) != 1:
		f.add(CodeProperty, "identity.userAssignedIdentities", "A cache rule must have exactly one user-assigned identity, not %d.", len(ids))
	default:
		r.IdentityID = ids[0]
	}
}

// MarshalJSON writes the resource. Empty fields are left out.
func (r Resource) MarshalJSON() ([]byte, error) {
	type properties struct {
		Source     string          `json:"sourceRepository"`
		Target     string          `json:"targetRepository"`
		Set        string          `json:"credentialSetResourceId,omitempty"`
		Additional json.RawMessage `json:"additionalAuthenticationProperties,omitempty"`
		Created    string          `json:"creationDate,omitempty"`
		State      string          `json:"provisioningState,omitempty"`
	}
	type identity struct {
		Type     string              `json:"type"`
		Assigned map[string]struct{} `json:"userAssignedIdentities"`
	}
	w := struct {
		ID         string     `json:"id,omitempty"`
		Name       string     `json:"name,omitempty"`
		Type       string     `json:"type,omitempty"`
		Identity   *identity  `json:"identity,omitempty"`
		Properties properties `json:"properties"`
	}{ID: r.ID, Name: r.Name, Properties: properties{
		Source: r.SourceRepository, Target: r.TargetRepository, Set: r.CredentialSetID,
		Additional: r.Additional, Created: r.CreationDate, State: r.ProvisioningState,
	}}
	if r.ID != "" {
		w.Type = resourceType
	}
	if r.IdentityID != "" {
		w.Identity = &identity{Type: "UserAssigned", Assigned: map[string]struct{}{r.IdentityID: {}}}
	}
	return json.Marshal(w)
}

// object is a JSON object whose fields are taken one by one. Unlike encoding/json it
// distinguishes the case of names and refuses a name that comes twice, so that two
// programs cannot read two different rules from one text.
type object struct {
	faults *faults
	prefix string
	fields map[string]json.RawMessage
}

// object parses a JSON object. If data is none, it notes a fault.
func (f *faults) object(path string, data []byte) *object {
	o := &object{faults: f, prefix: path, fields: map[string]json.RawMessage{}}
	if err := o.read(data); err != nil {
		f.add(CodeProperty, path, "The value is not a valid JSON object: %v.", err)
	}
	return o
}

func (o *object) read(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := open(d); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name := key.(string) // keys of an object are strings
		if _, twice := o.fields[name]; twice {
			o.faults.add(CodeProperty, o.path(name), "The property comes twice.")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		o.fields[name] = value
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if d.InputOffset() != int64(len(bytes.TrimRight(data, " \t\r\n"))) {
		return fmt.Errorf("more text follows the object")
	}
	return nil
}

func open(d *json.Decoder) error {
	t, err := d.Token()
	if err == nil && t != json.Delim('{') {
		err = fmt.Errorf("it does not begin with '{'")
	}
	return err
}

func (o *object) path(name string) string {
	if o.prefix == "" {
		return shorten(name)
	}
	return o.prefix + "." + shorten(name)
}

// take removes a field and returns it, or nil if it is missing or null.
func (o *object) take(name string) json.RawMessage {
	raw := o.fields[name]
	delete(o.fields, name)
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// text takes a string field, which is empty if it is missing.
func (o *object) text(name string) (s string) {
	raw := o.take(name)
	if raw != nil && json.Unmarshal(raw, &s) != nil {
		o.faults.add(CodeProperty, o.path(name), "The property must be a string.")
	}
	return s
}

// needed takes a string field. It notes a fault if the field is missing or empty.
func (o *object) needed(name string) string {
	had := len(o.faults.list)
	s := o.text(name)
	if s == "" && len(o.faults.list) == had {
		o.faults.add(CodeProperty, o.path(name), "The property is missing.")
	}
	return s
}

// end notes a fault for each field that was not taken.
func (o *object) end() {
	for _, name := range slices.Sorted(maps.Keys(o.fields)) {
		o.faults.add(CodeProperty, o.path(name), "The property is not known.")
	}
}

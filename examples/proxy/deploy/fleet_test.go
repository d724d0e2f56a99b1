package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// moveFleet moves the fleet of a configuration to this machine: the files of the Secret for
// replicas, the address and the variable that has it.
func (c *cluster) moveFleet(t *testing.T, moved *config) {
	t.Helper()
	t.Setenv("POD_IP", "127.0.0.1")
	mount := c.container().VolumeMounts[slices.IndexFunc(c.container().VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "peers" })].MountPath
	dir := t.TempDir()
	writePair(t, dir, "pullthrough-peers")
	for from, to := range map[string]string{mount + "/": dir + "/", " 0.0.0.0:5443": " " + freeAddress(t)} {
		if !strings.Contains(moved.text, from) {
			t.Errorf("the configuration does not have %q:\n%s", from, moved.text)
		}
		moved.text = strings.ReplaceAll(moved.text, from, to)
	}
	if err := os.WriteFile(moved.file, []byte(moved.text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writePair writes what the Secret for replicas has, as its comment makes it.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, data := range map[string][]byte{"tls.crt": cert, "ca.crt": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: packed})} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFleetFindsItself: the configuration names the headless service, its port and the variable
// that has the address of the pod, and every replica is found, ready or not.
func TestFleetFindsItself(t *testing.T) {
	c := readCluster(t, "kubernetes/fleet")
	text := c.config.Data["proxy.yaml"]
	if c.peers == nil || !c.peers.Spec.PublishNotReadyAddresses {
		t.Fatalf("the service of the replicas is %+v", c.peers)
	}
	for _, want := range []string{"dns: " + c.peers.Name + "." + c.peers.Namespace + ".svc.", "listen: 0.0.0.0:5443", "self: {env: POD_IP}"} {
		if !strings.Contains(text, want) {
			t.Errorf("the configuration does not have %q", want)
		}
	}
	if i := slices.IndexFunc(c.container().Env, func(e corev1.EnvVar) bool { return e.Name == "POD_IP" }); i < 0 || c.container().Env[i].ValueFrom.FieldRef.FieldPath != "status.podIP" {
		t.Error("POD_IP is not the address of the pod")
	}
	if c.svc.Spec.PublishNotReadyAddresses || slices.ContainsFunc(c.svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.TargetPort.StrVal == "peers" }) {
		t.Error("clients reach replicas that are not ready, or the port for replicas")
	}
}

// TestOnlyReplicasReachReplicas: the port for replicas is open to pods of the set alone, and they may
// reach it.
func TestOnlyReplicasReachReplicas(t *testing.T) {
	c := readCluster(t, "kubernetes/fleet")
	in, out := 0, 0
	for _, rule := range c.policy.Spec.Ingress {
		if len(rule.Ports) == 0 {
			t.Error("a rule opens all ports")
		}
		for _, p := range rule.Ports {
			if p.Port.StrVal != "peers" && p.Port.IntVal != 5443 {
				continue
			}
			in++
			if len(rule.From) != 1 || rule.From[0].PodSelector == nil || rule.From[0].NamespaceSelector != nil || rule.From[0].IPBlock != nil ||
				rule.From[0].PodSelector.MatchLabels["app.kubernetes.io/name"] != c.set.Spec.Template.Labels["app.kubernetes.io/name"] {
				t.Errorf("the port for replicas is open to %+v", rule.From)
			}
		}
	}
	for _, rule := range c.policy.Spec.Egress {
		for _, p := range rule.Ports {
			if p.Port.StrVal == "peers" && len(rule.To) == 1 && rule.To[0].PodSelector != nil {
				out++
			}
		}
	}
	if in != 1 || out != 1 {
		t.Errorf("%d rules let replicas in, and %d out, want 1 and 1", in, out)
	}
}

// TestPodDrainsInTime: the time that Kubernetes gives a pod is enough for what it does at its end.
func TestPodDrainsInTime(t *testing.T) {
	c := readCluster(t, "kubernetes/fleet")
	_, rest, _ := strings.Cut(c.config.Data["proxy.yaml"], "\ndrain: ")
	drain, err := time.ParseDuration(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	const records, deletions, events = 10 * time.Second, 2 * time.Second, 5 * time.Second
	need := time.Duration(c.container().Lifecycle.PreStop.Sleep.Seconds)*time.Second + drain + records + deletions + events
	if got := time.Duration(*c.set.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second; got < need {
		t.Errorf("the pod has %v, and needs %v", got, need)
	}
}

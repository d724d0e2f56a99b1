package deploy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// cluster has the objects of the manifests.
type cluster struct {
	config *corev1.ConfigMap
	set    *appsv1.StatefulSet
	svc    *corev1.Service
	peers  *corev1.Service // headless; nil without a fleet
	policy *networkingv1.NetworkPolicy
	budget *policyv1.PodDisruptionBudget
}

// clusters has the folders of manifests.
func clusters() []string { return []string{"kubernetes", "kubernetes/fleet"} }

// readCluster decodes every manifest in a folder by the types of Kubernetes: unknown and repeated
// fields and wrong types are errors.
func readCluster(t *testing.T, folder string) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			text, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			object, _, err := decoder.Decode(text, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			c.add(t, file, object)
		}
	}
	return c
}

// add adds an object.
func (c *cluster) add(t *testing.T, file string, object runtime.Object) {
	t.Helper()
	name := "pullthrough"
	switch o := object.(type) {
	case *corev1.ConfigMap:
		c.config = o
	case *appsv1.StatefulSet:
		c.set = o
	case *corev1.Service:
		if o.Spec.ClusterIP == corev1.ClusterIPNone {
			name, c.peers = "pullthrough-peers", o
			break
		}
		c.svc = o
	case *networkingv1.NetworkPolicy:
		c.policy = o
	case *policyv1.PodDisruptionBudget:
		c.budget = o
	default:
		t.Errorf("%s: what is a %T for?", file, object)
	}
	if m, ok := object.(metav1.Object); !ok || m.GetNamespace() != "pullthrough" || m.GetName() != name {
		t.Errorf("%s: %T is not %s in the namespace pullthrough", file, object, name)
	}
}

// container is the container of the proxy.
func (c *cluster) container() corev1.Container { return c.set.Spec.Template.Spec.Containers[0] }

// TestManifestsFitTogether: what selects the pods selects them, and what names a port, a
// volume, an object or a service names one that exists.
func TestManifestsFitTogether(t *testing.T) {
	for _, folder := range clusters() {
		t.Run(folder, func(t *testing.T) { readCluster(t, folder).wantFit(t) })
	}
}

// wantFit fails if a name leads nowhere.
func (c *cluster) wantFit(t *testing.T) {
	labels := c.set.Spec.Template.Labels
	for what, selector := range map[string]map[string]string{
		"the set":     c.set.Spec.Selector.MatchLabels,
		"the service": c.svc.Spec.Selector,
		"the policy":  c.policy.Spec.PodSelector.MatchLabels,
		"the budget":  c.budget.Spec.Selector.MatchLabels,
		"the spread":  c.set.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels,
	} {
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("%s selects %s=%s, the pods have %v", what, key, value, labels)
			}
		}
		if len(selector) == 0 {
			t.Errorf("%s selects every pod", what)
		}
	}
	governing := c.svc
	if c.peers != nil {
		governing = c.peers
	}
	if c.set.Spec.ServiceName != governing.Name {
		t.Errorf("the set names service %q", c.set.Spec.ServiceName)
	}
	for _, p := range slices.Concat(c.svc.Spec.Ports, governing.Spec.Ports) {
		c.wantPort(t, "a service", p.TargetPort)
	}
	for _, rule := range c.policy.Spec.Ingress {
		for _, p := range rule.Ports {
			c.wantPort(t, "the policy", *p.Port)
		}
	}
	c.wantVolumes(t)
}

// wantPort fails unless the container has a port of a name.
func (c *cluster) wantPort(t *testing.T, what string, port intstr.IntOrString) {
	t.Helper()
	if !slices.ContainsFunc(c.container().Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal }) {
		t.Errorf("%s names port %q, which the container does not have", what, port.String())
	}
}

// wantVolumes fails unless every mount has its volume.
func (c *cluster) wantVolumes(t *testing.T) {
	t.Helper()
	var volumes []string
	for _, v := range c.set.Spec.Template.Spec.Volumes {
		volumes = append(volumes, v.Name)
		if v.ConfigMap != nil && v.ConfigMap.Name != c.config.Name {
			t.Errorf("volume %s names the ConfigMap %q", v.Name, v.ConfigMap.Name)
		}
	}
	for _, v := range c.set.Spec.VolumeClaimTemplates {
		volumes = append(volumes, v.Name)
	}
	var mounted []string
	for _, m := range c.container().VolumeMounts {
		mounted = append(mounted, m.Name)
	}
	slices.Sort(volumes)
	slices.Sort(mounted)
	if !slices.Equal(volumes, mounted) {
		t.Errorf("the volumes are %v, mounted are %v", volumes, mounted)
	}
}

// TestPodIsLockedUp: the pod meets the restricted standard of Kubernetes, and writes to its
// volume alone.
func TestPodIsLockedUp(t *testing.T) {
	for _, folder := range clusters() {
		t.Run(folder, func(t *testing.T) { readCluster(t, folder).wantLockedUp(t) })
	}
}

// wantLockedUp fails if the pod may do more than it must.
func (c *cluster) wantLockedUp(t *testing.T) {
	pod, own := c.set.Spec.Template.Spec.SecurityContext, c.container().SecurityContext
	switch {
	case !*pod.RunAsNonRoot || *pod.RunAsUser == 0:
		t.Error("the pod may run as root")
	case pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Error("the pod has no seccomp profile")
	case *own.AllowPrivilegeEscalation || !slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}):
		t.Error("the container has capabilities")
	case !*own.ReadOnlyRootFilesystem:
		t.Error("the container writes to its image")
	case *c.set.Spec.Template.Spec.AutomountServiceAccountToken:
		t.Error("the pod has a token of the cluster")
	}
	for _, m := range c.container().VolumeMounts {
		if m.ReadOnly != (m.Name != "images") {
			t.Errorf("mount %s: readOnly is %v", m.Name, m.ReadOnly)
		}
	}
}

// TestPodServes: the proxy runs with the arguments and the configuration of the pod, and
// answers the probes at the ports that they name. The store is a folder below the volume.
func TestPodServes(t *testing.T) {
	for _, folder := range clusters() {
		t.Run(folder, func(t *testing.T) { readCluster(t, folder).wantServes(t) })
	}
}

// wantServes runs the proxy as the pod does.
func (c *cluster) wantServes(t *testing.T) {
	var store, secrets, etc string
	for _, m := range c.container().VolumeMounts {
		switch m.Name {
		case "images":
			store = m.MountPath
		case "secrets":
			secrets = m.MountPath
		case "config":
			etc = m.MountPath
		}
	}
	moved := move(t, c.config.Data["proxy.yaml"], store, secrets)
	if c.peers != nil {
		c.moveFleet(t, moved)
	}
	wantChecked(t, moved.file)
	args := slices.Clone(c.container().Args)
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, etc+"/"); ok {
			if _, ok := c.config.Data[name]; !ok {
				t.Errorf("the arguments name %s, which the ConfigMap does not have", a)
			}
			args[i] = moved.file
		}
	}
	p := moved.start(t, args...)
	addresses := map[string]string{}
	for _, port := range c.container().Ports {
		switch port.ContainerPort {
		case 5000:
			addresses[port.Name] = moved.listen
		case 5001:
			addresses[port.Name] = moved.admin
		}
	}
	if got := status(t, "http://"+addresses["registry"]+"/v2/"); got != http.StatusOK {
		t.Errorf("the port registry answers /v2/ with %d", got)
	}
	for name, probe := range map[string]*corev1.Probe{
		"startup": c.container().StartupProbe, "liveness": c.container().LivenessProbe, "readiness": c.container().ReadinessProbe,
	} {
		get := probe.HTTPGet
		// The kubelet asks again, too.
		p.until(t, fmt.Sprintf("the %s probe, %s at port %s", name, get.Path, get.Port.StrVal), func() bool {
			return status(t, "http://"+addresses[get.Port.StrVal]+get.Path) == http.StatusOK
		})
	}
	p.terminate(t)
}

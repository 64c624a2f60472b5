package deploy

import (
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// workload is a StatefulSet or a Deployment, or the CronJob of backups.
type workload struct {
	name, kind string
	selector   *meta.LabelSelector
	pod        core.PodTemplateSpec
	claims     []string
}

func workloads(all []any) (found []workload) {
	for _, o := range all {
		switch o := o.(type) {
		case *apps.StatefulSet:
			w := workload{o.Name, "StatefulSet", o.Spec.Selector, o.Spec.Template, nil}
			for _, c := range o.Spec.VolumeClaimTemplates {
				w.claims = append(w.claims, c.Name)
			}
			found = append(found, w)
		case *apps.Deployment:
			found = append(found, workload{o.Name, "Deployment", o.Spec.Selector, o.Spec.Template, nil})
		}
	}
	return found
}

// fits checks what a cluster would find out late or never: names that lead nowhere, and
// pods that may do more than they need.
func fits(t *testing.T, all []any) {
	t.Helper()
	pods := workloads(all)
	if len(pods) != 3 {
		t.Fatalf("%d workloads, want one for each role", len(pods))
	}
	for i := range pods {
		w := &pods[i]
		if !selects(t, w.selector, w) {
			t.Errorf("%s does not select its own pods", w.name)
		}
		for _, other := range pods {
			if other.name != w.name && selects(t, w.selector, &other) {
				t.Errorf("%s selects the pods of %s", w.name, other.name)
			}
		}
		safe(t, w)
		probed(t, w)
		mounts(t, w)
	}
	for _, o := range all {
		switch o := o.(type) {
		case *core.Service:
			for _, p := range o.Spec.Ports {
				hasPort(t, o.Name, pods, &meta.LabelSelector{MatchLabels: o.Spec.Selector}, p.TargetPort)
			}
		case *networking.NetworkPolicy:
			for _, rule := range o.Spec.Ingress {
				for _, p := range rule.Ports {
					hasPort(t, o.Name, pods, &o.Spec.PodSelector, *p.Port)
				}
			}
		case *policy.PodDisruptionBudget:
			if !slices.ContainsFunc(pods, func(w workload) bool { return selects(t, o.Spec.Selector, &w) }) {
				t.Errorf("the budget %s is for no pod", o.Name)
			}
		case *autoscaling.HorizontalPodAutoscaler:
			target := o.Spec.ScaleTargetRef
			if !slices.ContainsFunc(pods, func(w workload) bool { return w.kind == target.Kind && w.name == target.Name }) {
				t.Errorf("%s scales %s %s, which is not there", o.Name, target.Kind, target.Name)
			}
		case *batch.CronJob:
			w := workload{name: o.Name, kind: "CronJob", pod: o.Spec.JobTemplate.Spec.Template}
			safe(t, &w)
			mounts(t, &w)
			for _, p := range pods {
				if selects(t, p.selector, &w) {
					t.Errorf("%s selects the pods of %s", p.name, w.name)
				}
			}
			hasClaim(t, all, &w)
		case *networking.Ingress:
			for _, rule := range o.Spec.Rules {
				for _, path := range rule.HTTP.Paths {
					leadsTo(t, o.Name, all, path.Backend.Service)
				}
			}
		}
	}
}

func selects(t *testing.T, s *meta.LabelSelector, w *workload) bool {
	t.Helper()
	selector, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(w.pod.Labels))
}

// hasPort checks that every pod which is selected has the port, by its name.
func hasPort(t *testing.T, who string, pods []workload, s *meta.LabelSelector, port intstr.IntOrString) {
	t.Helper()
	found := 0
	for _, w := range pods {
		if !selects(t, s, &w) {
			continue
		}
		found++
		if !slices.ContainsFunc(w.pod.Spec.Containers[0].Ports, func(p core.ContainerPort) bool { return p.Name == port.StrVal }) {
			t.Errorf("%s names the port %q, which %s does not have", who, port.StrVal, w.name)
		}
	}
	if found == 0 {
		t.Errorf("%s is for no pod", who)
	}
}

func leadsTo(t *testing.T, who string, all []any, backend *networking.IngressServiceBackend) {
	t.Helper()
	for _, o := range all {
		if s, ok := o.(*core.Service); ok && s.Name == backend.Name &&
			slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool { return p.Name == backend.Port.Name }) {
			return
		}
	}
	t.Errorf("%s leads to %s, port %q, which is not there", who, backend.Name, backend.Port.Name)
}

// hasClaim checks that a claim which is named like the workload is made, too: others are there before.
func hasClaim(t *testing.T, all []any, w *workload) {
	t.Helper()
	for _, v := range w.pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil || v.PersistentVolumeClaim.ClaimName != w.name {
			continue
		}
		if !slices.ContainsFunc(all, func(o any) bool {
			c, ok := o.(*core.PersistentVolumeClaim)
			return ok && c.Name == w.name
		}) {
			t.Errorf("%s names a claim of its own, which is not made", w.name)
		}
	}
}

// safe holds a pod to the restricted pod security standard, and to more.
func safe(t *testing.T, w *workload) {
	t.Helper()
	spec := w.pod.Spec
	p, c := spec.SecurityContext, spec.Containers[0].SecurityContext
	switch {
	case p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.RunAsUser == nil || *p.RunAsUser == 0:
		t.Errorf("%s may run as root", w.name)
	case p.SeccompProfile == nil || p.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault:
		t.Errorf("%s has no seccomp profile", w.name)
	case c == nil || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem:
		t.Errorf("%s may write to its image", w.name)
	case c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || !slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) || len(c.Capabilities.Add) > 0:
		t.Errorf("%s keeps capabilities or may gain some", w.name)
	case spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken:
		t.Errorf("%s is given a token of the cluster's API", w.name)
	case spec.Containers[0].Resources.Limits.Memory().IsZero() || spec.Containers[0].Resources.Requests.Cpu().IsZero():
		t.Errorf("%s has no limit of memory or asks for no processor", w.name)
	case w.kind != "CronJob" && (spec.Containers[0].LivenessProbe == nil || spec.Containers[0].ReadinessProbe == nil):
		t.Errorf("%s is not asked how it is", w.name)
	}
	for _, e := range spec.Containers[0].Env {
		if secret := e.Name == "TIDEGATE_DATABASE" || e.Name == "TIDEGATE_CLICKHOUSE"; secret && (e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil) {
			t.Errorf("%s: %s does not come from a Secret", w.name, e.Name)
		}
	}
}

// probed checks that probes speak what the port for health speaks, by its flags.
func probed(t *testing.T, w *workload) {
	t.Helper()
	c := w.pod.Spec.Containers[0]
	want := core.URIScheme("")
	if slices.ContainsFunc(c.Args, func(arg string) bool { return strings.HasPrefix(arg, "--ops-tls-cert=") }) {
		want = core.URISchemeHTTPS
	}
	for _, p := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p.HTTPGet.Scheme != want {
			t.Errorf("a probe of %s speaks %q, want %q", w.name, p.HTTPGet.Scheme, want)
		}
	}
}

// mounts checks that each volume is mounted, once, and each mount a volume.
func mounts(t *testing.T, w *workload) {
	t.Helper()
	there := slices.Clone(w.claims)
	for _, v := range w.pod.Spec.Volumes {
		there = append(there, v.Name)
	}
	var used, paths []string
	for _, m := range w.pod.Spec.Containers[0].VolumeMounts {
		used, paths = append(used, m.Name), append(paths, m.MountPath)
	}
	for _, names := range [][]string{there, used, paths} {
		slices.Sort(names)
		if len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("%s: something is there twice: %v", w.name, names)
		}
	}
	if !slices.Equal(there, used) {
		t.Errorf("%s has the volumes %v and mounts %v", w.name, there, used)
	}
}

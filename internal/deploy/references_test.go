package deploy

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func bound(bindings ...Binding) Version { return Version{Worker: &Worker{Bindings: bindings}} }

func service(name, script string) Binding {
	return Binding{Name: name, Type: BindingService, Service: script}
}

func class(name, className, script string) Binding {
	return Binding{Name: name, Type: "durable_object_namespace", ClassName: className, ScriptName: script, NamespaceID: "0123"}
}

func TestReferencesFollowDeployedBindings(t *testing.T) {
	deployed := map[string][]Version{
		"shop": {
			bound(service("STOCK", "stock"), service("SELF", "shop"), class("CART", "Cart", "")),
			bound(service("STOCK", "stock"), service("PAY", "pay")), // the other half of a split
		},
		"front":  {bound(service("SHOP", "shop"), service("AGAIN", "shop")), bound(service("SHOP", "shop"))},
		"admin":  {bound(class("CARTS", "Cart", "shop"), class("OWN", "Cart", ""))},
		"stock":  {bound(Binding{Name: "NAME", Type: BindingPlainText, Text: "shop"})},
		"origin": {{Origin: &Origin{URL: "http://shop"}}},
	}
	got := FindReferences("shop", deployed)
	want := References{
		Incoming:       []ServiceReference{{"front", "AGAIN"}, {"front", "SHOP"}},
		Outgoing:       []ServiceReference{{"pay", "PAY"}, {"stock", "STOCK"}},
		DurableObjects: []DurableObjectReference{{"admin", "CARTS", "Cart", "0123"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("references of shop (-want +got):\n%s", diff)
	}
	if names := got.Dependents(); !slices.Equal(names, []string{"admin", "front"}) {
		t.Errorf("dependents %v", names)
	}
	if names := FindReferences("front", deployed).Dependents(); len(names) != 0 {
		t.Errorf("nobody uses front, but %v do", names)
	}
}

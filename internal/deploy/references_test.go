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

func class(name, className, script, id string) Binding {
	return Binding{Name: name, Type: BindingDurableObject, ClassName: className, ScriptName: script, NamespaceID: id}
}

func TestReferencesFollowBindings(t *testing.T) {
	ties := Ties{
		Deployed: map[string][]Version{
			"shop": {
				bound(service("STOCK", "stock"), service("SELF", "shop"), class("CART", "Cart", "", "0123")),
				bound(service("STOCK", "stock"), service("PAY", "pay")), // the other half of a split
			},
			"front":  {bound(service("SHOP", "shop"), service("AGAIN", "shop")), bound(service("SHOP", "shop"))},
			"admin":  {bound(class("CARTS", "Cart", "shop", "0123"), class("OWN", "Cart", "", "4567"))},
			"stock":  {bound(Binding{Name: "NAME", Type: BindingPlainText, Text: "shop"})},
			"origin": {{Origin: &Origin{URL: "http://shop"}}},
		},
		// Of what does not serve yet, only bindings to objects count.
		Newest: map[string]Version{
			"admin": bound(class("CARTS", "Cart", "shop", "0123")),
			"next":  bound(service("SHOP", "shop"), class("CARTS", "Cart", "shop", "0123")),
			"shop":  bound(class("CART", "Cart", "", "0123")),
		},
		Namespaces: []ScriptNamespace{{DurableObjectNamespace{"0123", "Cart", true}, "shop"}, {DurableObjectNamespace{"4567", "Cart", true}, "admin"}},
	}
	got := ties.References("shop")
	want := References{
		Incoming:       []ServiceReference{{"front", "AGAIN"}, {"front", "SHOP"}},
		Outgoing:       []ServiceReference{{"pay", "PAY"}, {"stock", "STOCK"}},
		DurableObjects: []DurableObjectReference{{"admin", "CARTS", "Cart", "0123"}, {"next", "CARTS", "Cart", "0123"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("references of shop (-want +got):\n%s", diff)
	}
	if names := got.Dependents(); !slices.Equal(names, []string{"admin", "front", "next"}) {
		t.Errorf("dependents %v", names)
	}
	if names := ties.References("front").Dependents(); len(names) != 0 {
		t.Errorf("nobody uses front, but %v do", names)
	}

	// The class goes to another script under another name: those who are bound to its
	// objects depend on that one, the script that it came from among them.
	ties.Namespaces[0] = ScriptNamespace{DurableObjectNamespace{"0123", "Basket", true}, "basket"}
	moved := []DurableObjectReference{{"admin", "CARTS", "Basket", "0123"}, {"next", "CARTS", "Basket", "0123"}, {"shop", "CART", "Basket", "0123"}}
	if diff := cmp.Diff(moved, ties.References("basket").DurableObjects); diff != "" {
		t.Errorf("references of basket (-want +got):\n%s", diff)
	}
	if left := ties.References("shop").DurableObjects; len(left) != 0 {
		t.Errorf("shop has no objects, but %v use them", left)
	}
}

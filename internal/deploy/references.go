package deploy

import (
	"cmp"
	"slices"
)

// References are the ties between a script and the others of its account, as the
// bindings of versions make them. Each list is sorted and has no repeats.
// A script's ties to itself are left out: they go with it.
type References struct {
	Incoming []ServiceReference // scripts that call this one
	Outgoing []ServiceReference // scripts that this one calls
	// DurableObjects are the scripts that use a class of this one, now or when their
	// newest version is deployed: a service can be made again under its name, a
	// namespace that is gone stays gone.
	DurableObjects []DurableObjectReference
}

// Ties are what the references of the scripts of an account are found in.
type Ties struct {
	Deployed   map[string][]Version // those that serve, by the name of their script
	Newest     map[string]Version   // the latest upload of each script that has one
	Namespaces []ScriptNamespace
}

// ServiceReference is one end of a service binding.
type ServiceReference struct {
	Script  string // at the other end
	Binding string // its name, in the script that has it
}

// DurableObjectReference is a binding to a class of another script.
type DurableObjectReference struct {
	Script      string // that has the binding
	Binding     string
	ClassName   string // that the namespace now has
	NamespaceID string
}

// References finds those of a script.
func (t Ties) References(script string) References {
	classes := make(map[string]string) // of the script, by the id of their namespace
	for _, n := range t.Namespaces {
		if n.Script == script {
			classes[n.ID] = n.Class
		}
	}
	var found References
	for owner, versions := range t.Deployed {
		for _, v := range versions {
			found.addServices(script, owner, v)
			found.addObjects(script, owner, v, classes)
		}
	}
	for owner, v := range t.Newest {
		found.addObjects(script, owner, v, classes)
	}
	return found.sorted()
}

func (v *Version) bindings() []Binding {
	if v.Worker == nil {
		return nil // an origin has none
	}
	return v.Worker.Bindings
}

func (r *References) addServices(script, owner string, v Version) {
	for _, b := range v.bindings() {
		switch {
		case b.Type != BindingService:
		case owner == script && b.Service != script:
			r.Outgoing = append(r.Outgoing, ServiceReference{b.Service, b.Name})
		case owner != script && b.Service == script:
			r.Incoming = append(r.Incoming, ServiceReference{owner, b.Name})
		}
	}
}

// addObjects goes by the ids of namespaces, which outlive renames and transfers, and
// not by the names that the bindings were made with.
func (r *References) addObjects(script, owner string, v Version, classes map[string]string) {
	if owner == script {
		return
	}
	for _, b := range v.bindings() {
		if class, ok := classes[b.NamespaceID]; ok && b.Type == BindingDurableObject {
			r.DurableObjects = append(r.DurableObjects, DurableObjectReference{owner, b.Name, class, b.NamespaceID})
		}
	}
}

func (r References) sorted() References {
	services := func(list []ServiceReference) []ServiceReference {
		slices.SortFunc(list, func(a, b ServiceReference) int {
			return cmp.Or(cmp.Compare(a.Script, b.Script), cmp.Compare(a.Binding, b.Binding))
		})
		return slices.Compact(list)
	}
	slices.SortFunc(r.DurableObjects, func(a, b DurableObjectReference) int {
		return cmp.Or(cmp.Compare(a.Script, b.Script), cmp.Compare(a.Binding, b.Binding),
			cmp.Compare(a.ClassName, b.ClassName), cmp.Compare(a.NamespaceID, b.NamespaceID))
	})
	return References{services(r.Incoming), services(r.Outgoing), slices.Compact(r.DurableObjects)}
}

// Dependents returns the names of the scripts that would break without this one.
func (r References) Dependents() []string {
	var names []string
	for _, use := range r.Incoming {
		names = append(names, use.Script)
	}
	for _, use := range r.DurableObjects {
		names = append(names, use.Script)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

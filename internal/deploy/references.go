package deploy

import (
	"cmp"
	"slices"
)

// References are the ties between a script and the others of its account, as the
// bindings of deployed versions make them. Each list is sorted and has no repeats.
// A script's ties to itself are left out: they go with it.
type References struct {
	Incoming []ServiceReference // scripts that call this one
	Outgoing []ServiceReference // scripts that this one calls
	// DurableObjects are the scripts that use a class of this one.
	DurableObjects []DurableObjectReference
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
	ClassName   string
	NamespaceID string
}

// FindReferences finds the ties of script in the bindings of deployed: the
// versions that now serve, by the name of their script.
func FindReferences(script string, deployed map[string][]Version) References {
	var found References
	for owner, versions := range deployed {
		for _, v := range versions {
			if v.Worker == nil {
				continue // an origin has no bindings
			}
			for _, b := range v.Worker.Bindings {
				found.add(script, owner, b)
			}
		}
	}
	return found.sorted()
}

func (r *References) add(script, owner string, b Binding) {
	switch {
	case b.Type == BindingService && owner == script && b.Service != script:
		r.Outgoing = append(r.Outgoing, ServiceReference{b.Service, b.Name})
	case owner == script:
	case b.Type == BindingService && b.Service == script:
		r.Incoming = append(r.Incoming, ServiceReference{owner, b.Name})
	case b.ClassName != "" && b.ScriptName == script:
		r.DurableObjects = append(r.DurableObjects, DurableObjectReference{owner, b.Name, b.ClassName, b.NamespaceID})
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

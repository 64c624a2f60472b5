package api_test

import (
	"net/http"
	"testing"

	"tidegate/internal/deploy"
)

const (
	roomBinding   = `{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "rooms"}`
	roomMigration = `"migrations": {"new_tag": "v1", "steps": [{"new_sqlite_classes": ["Room"]}]}`
)

// deployRooms puts a script that has the class Room, and returns its namespace.
func (p *platform) deployRooms(t *testing.T) string {
	t.Helper()
	p.exporting("Room")
	id := p.deployWorker(t, "rooms", `{"main_module": "index.js", `+roomMigration+`}`).Worker.DurableObjects[0].ID
	p.exporting()
	return id
}

// objectBinding is the one binding to Durable Objects of the list.
func objectBinding(t *testing.T, list []deploy.Binding) deploy.Binding {
	t.Helper()
	var found []deploy.Binding
	for _, b := range list {
		if b.Type == deploy.BindingDurableObject {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Errorf("the bindings %+v have %d to Durable Objects, want one", list, len(found))
		return deploy.Binding{}
	}
	return found[0]
}

func TestBindingsToTheObjectsOfOthers(t *testing.T) {
	p := newPlatform(t)
	const path = "/workers/scripts/front"
	put := func(members string) answer {
		t.Helper()
		return p.send(t, http.MethodPut, path, `{"main_module": "index.js", `+members+`}`, index)
	}
	put(`"bindings": [`+roomBinding+`]`).want(t, http.StatusBadRequest, 10061, "ROOM", "'Room'", "'rooms'", "does not exist")
	id := p.deployRooms(t)
	put(`"bindings": [{"name": "HALL", "type": "durable_object_namespace", "class_name": "Hall", "script_name": "rooms"}]`).
		want(t, http.StatusBadRequest, 10061, "HALL", "'Hall'", "'rooms'", "not currently configured")
	put(`"bindings": [{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "rooms", "namespace_id": "00000000000000000000000000000000"}]`).
		want(t, http.StatusBadRequest, 10061, "ROOM", "namespace_id", id)
	put(`"bindings": [{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "rooms", "environment": "staging"}]`).
		want(t, http.StatusBadRequest, 10001, "ROOM", "environment", "staging")
	put(`"bindings": [{"name": "ROOM", "type": "durable_object_namespace", "class_name": "Room", "script_name": "rooms", "environment": "production", "namespace_id": "` + id + `"}]`).ok(t)

	shown := `"class_name":"Room","script_name":"rooms","namespace_id":"` + id + `"`
	first := p.newest(t, "front")
	for _, url := range []string{path + "/versions/" + first.ID, path + "/settings", "/workers/services/front/environments/production/bindings", "/workers/workers/front/versions/" + first.ID} {
		p.call(t, http.MethodGet, url, "").ok(t, shown)
	}
	p.call(t, http.MethodGet, path+"/versions/"+first.ID, "").ok(t, `"has_preview":true`) // it implements none

	// Kept and inherited, under another name too.
	leads := func() {
		t.Helper()
		b := objectBinding(t, p.newest(t, "front").Worker.Bindings)
		if b.ClassName != "Room" || b.ScriptName != "rooms" || b.NamespaceID != id {
			t.Errorf("the binding is %+v", b)
		}
	}
	put(`"keep_bindings": ["durable_object_namespace"]`).ok(t)
	leads()
	put(`"bindings": [{"name": "SPACE", "type": "inherit", "old_name": "ROOM", "version_id": "` + first.ID + `"}]`).ok(t)
	leads()
	p.call(t, http.MethodPut, path+"/secrets", `{"name": "KEY", "text": "x", "type": "secret_text"}`).ok(t)

	// With the class made anew under its name, they lead to what it has now.
	p.call(t, http.MethodDelete, "/workers/services/rooms?force=true", "").ok(t)
	p.call(t, http.MethodPut, path+"/secrets", `{"name": "KEY", "text": "y", "type": "secret_text"}`).want(t, http.StatusBadRequest, 10061, "SPACE", "'rooms'", "does not exist")
	id = p.deployRooms(t)
	p.call(t, http.MethodPut, path+"/secrets", `{"name": "KEY", "text": "y", "type": "secret_text"}`).ok(t)
	put(`"bindings": [{"name": "ROOM", "type": "inherit", "version_id": "` + first.ID + `"}]`).ok(t)
	leads()

	// The own script may be named.
	p.exporting("Seat")
	var checked deploy.Binding
	p.runtime.mu.Lock()
	check := p.runtime.check
	p.runtime.check = func(w *deploy.Worker, contents map[string][]byte) (deploy.Exports, int64, error) {
		checked = objectBinding(t, w.Bindings)
		return check(w, contents)
	}
	p.runtime.mu.Unlock()
	put(`"bindings": [{"name": "SEAT", "type": "durable_object_namespace", "class_name": "Seat", "script_name": "front"}], "migrations": {"new_tag": "v1", "new_classes": ["Seat"]}`).ok(t)
	if checked.ClassName != "Seat" || checked.ScriptName != "" {
		t.Errorf("the runtime is asked about %+v: the own script has no name there", checked)
	}
	p.call(t, http.MethodGet, path+"/settings", "").ok(t, `"class_name":"Seat","namespace_id"`)
}

func TestReferencesToObjects(t *testing.T) {
	p := newPlatform(t)
	id := p.deployRooms(t)
	p.deployWorker(t, "front", `{"main_module": "index.js"}`)
	p.send(t, http.MethodPost, "/workers/scripts/front/versions", `{"main_module": "index.js", "bindings": [`+roomBinding+`]}`, index).ok(t) // not deployed
	p.call(t, http.MethodGet, "/workers/scripts/rooms/references", "").
		ok(t, `"durable_objects":[{"name":"ROOM","service":"front","environment":"production","durable_object_namespace_id":"`+id+`","durable_object_namespace_name":"rooms_Room"}]`)
	p.call(t, http.MethodGet, "/workers/scripts/front/references", "").ok(t, `"durable_objects":[]`)
	p.call(t, http.MethodGet, "/workers/workers/rooms", "").
		ok(t, `"durable_objects":[{"namespace_id":"`+id+`","namespace_name":"rooms_Room","worker_id":"`, `"worker_name":"front"}]`)
	p.call(t, http.MethodDelete, "/workers/services/rooms?force=false", "").want(t, http.StatusConflict, 10064, "rooms", "front", "force")
	p.deployWorker(t, "front", `{"main_module": "index.js"}`)
	p.call(t, http.MethodGet, "/workers/scripts/rooms/references", "").ok(t, `"durable_objects":[]`)
	p.call(t, http.MethodDelete, "/workers/services/rooms?force=false", "").ok(t)
}

func TestTransferredClasses(t *testing.T) {
	p := newPlatform(t)
	id := p.deployRooms(t)
	source := p.newest(t, "rooms")
	const path = "/workers/scripts/house"
	put := func(transfer string) answer {
		t.Helper()
		return p.send(t, http.MethodPut, path, `{"main_module": "index.js", "migrations": {"new_tag": "v1", "steps": [{"transferred_classes": [`+transfer+`]}]},
			"bindings": [{"name": "HALL", "type": "durable_object_namespace", "class_name": "Hall"}]}`, index)
	}
	put(`{"from": "Room", "from_script": "rooms", "to": "Hall"}`).want(t, http.StatusBadRequest, 10070, "'Hall'", "not exported")
	p.exporting("Hall")
	put(`{"from": "Room", "from_script": "none", "to": "Hall"}`).want(t, http.StatusBadRequest, 10074, "'none'", "does not exist")
	put(`{"from": "Room", "from_script": "rooms", "to": "Hall", "more": 1}`).want(t, http.StatusBadRequest, 10001, "more")
	put(`{"from": "Room", "from_script": "rooms", "to": "Hall"}`).ok(t)
	p.call(t, http.MethodGet, "/workers/durable_objects/namespaces", "").
		ok(t, `[{"id":"`+id+`","name":"house_Hall","script":"house","class":"Hall","use_sqlite":true}]`)
	p.call(t, http.MethodGet, "/routing/snapshot", "").ok(t, `"objects":[{"id":"`+id+`","class":"Hall","sqlite":true}]`)
	p.call(t, http.MethodGet, "/routing/snapshot", "").lacks(t, `"class":"Room"`)
	p.call(t, http.MethodPost, "/workers/scripts/rooms/deployments", `{"strategy": "percentage", "versions": [{"version_id": "`+source.ID+`", "percentage": 100}]}`).
		want(t, http.StatusBadRequest, 10001, source.ID, "lifecycle change")
	p.send(t, http.MethodPost, path+"/versions", `{"main_module": "index.js", "migrations": {"old_tag": "v1", "new_tag": "v2", "transferred_classes": []}}`, index).
		want(t, http.StatusBadRequest, 10211, "migrations")
}

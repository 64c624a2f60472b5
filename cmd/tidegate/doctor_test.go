package main

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"tidegate/internal/app"
)

// A planted fault makes the exit status, and both outputs say what to do.
func TestDoctorFindsAPlantedFault(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	free := []string{"--data-dir", t.TempDir(), "--gateway-addr", "127.0.0.1:0", "--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0"}
	taken := append([]string{"doctor", "--api-addr", l.Addr().String()}, free...)
	status, text := local(t, doctorCommand(), taken...)
	if status != 1 || !strings.Contains(text, l.Addr().String()+" is in use by") || !strings.Contains(text, "do: End that, or choose another address with --api-addr.") {
		t.Errorf("status %d, and\n%s", status, text)
	}
	status, text = local(t, doctorCommand(), append(taken, "--json")...)
	var list []app.Finding
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 1 {
		t.Fatalf("status %d, %v, and\n%s", status, err, text)
	}
	faults := 0
	for _, f := range list {
		if f.State == app.JudgedFault {
			faults++
		}
		if f.Sentence == "" || f.State != app.JudgedOK && f.Advice == "" {
			t.Errorf("it says nothing, or not what to do: %+v", f)
		}
	}
	if faults != 1 {
		t.Errorf("%d faults in\n%s", faults, text)
	}
	if status, text := local(t, doctorCommand(), append([]string{"doctor", "--api-addr", "127.0.0.1:0"}, free...)...); status != 0 {
		t.Errorf("without the fault: status %d, and\n%s", status, text)
	}
	if status, _ := local(t, doctorCommand(), "doctor", "--no-such-flag"); status != 2 {
		t.Errorf("a flag that is none: status %d, want 2", status)
	}
}

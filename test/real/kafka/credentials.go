package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// WriteCredentials makes an authority, a client's certificate, a password, and the
// brokers' certificate, in a file that holds its key, too, as Kafka likes PEM.
func WriteCredentials(dir string) (a Access, keyStore string, err error) {
	path := func(name string) string { return filepath.Join(dir, name) }
	a = Access{CAFile: path("ca.pem"), CertFile: path("client.pem"), KeyFile: path("client-key.pem"), Username: username, PasswordFile: path("password")}
	keyStore = path("brokers.pem")
	ca, err := newAuthority()
	if err != nil {
		return a, "", err
	}
	server, serverKey, err := ca.issue("brokers")
	if err != nil {
		return a, "", err
	}
	client, clientKey, err := ca.issue("client")
	if err != nil {
		return a, "", err
	}
	for name, content := range map[string][]byte{
		a.CAFile: ca.pem, keyStore: append(serverKey, server...),
		a.CertFile: client, a.KeyFile: clientKey, a.PasswordFile: []byte(randomPassword()),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return a, "", err
		}
	}
	return a, keyStore, nil
}

type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certificate("test authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a test authority: %w", err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{parsed, key, encodePEM("CERTIFICATE", der)}, nil
}

// issue returns a certificate for both ends of a connection, and its key.
func (a *authority) issue(name string) (certificatePEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := certificate(name)
	template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key) // the only form that Kafka reads
	if err != nil {
		return nil, nil, err
	}
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", keyDER), nil
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

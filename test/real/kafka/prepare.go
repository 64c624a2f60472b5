package kafka

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

const (
	username  = "tidegate"
	clusterID = "AAAAAAAAAAAAAAAAAAAAAQ"
)

// prepare writes certificates and properties, and formats the folders of data.
func (c *Cluster) prepare(ctx context.Context) error {
	var err error
	if c.cfg.Jars, err = filepath.Abs(c.cfg.Jars); err != nil {
		return err
	}
	if c.cfg.Dir, err = filepath.Abs(c.cfg.Dir); err != nil {
		return err
	}
	var keyStore string
	if c.access, keyStore, err = WriteCredentials(c.cfg.Dir); err != nil {
		return err
	}
	password, err := os.ReadFile(c.access.PasswordFile)
	if err != nil {
		return err
	}
	ports, err := c.ports()
	if err != nil {
		return err
	}
	for i := range c.cfg.Brokers {
		b := &broker{
			properties: c.path(fmt.Sprintf("broker-%d.properties", i+1)),
			log:        c.path(fmt.Sprintf("broker-%d.log", i+1)),
			addr:       c.listen(i, ports[i].plaintext),
		}
		if c.cfg.Hosts != nil {
			b.command = c.cfg.Hosts[i].Command
		}
		if err := os.WriteFile(b.properties, []byte(c.properties(i, ports, keyStore, string(password))), 0o600); err != nil {
			return err
		}
		c.brokers = append(c.brokers, b)
		c.access.Plaintext = append(c.access.Plaintext, b.addr)
		c.access.MutualTLS = append(c.access.MutualTLS, c.listen(i, ports[i].mutualTLS))
		c.access.SASL = append(c.access.SASL, c.listen(i, ports[i].sasl))
	}
	return c.format(ctx, string(password))
}

func (c *Cluster) path(name string) string { return filepath.Join(c.cfg.Dir, name) }

// listen is an address of the broker at an index.
func (c *Cluster) listen(i, port int) string {
	host := "127.0.0.1"
	if c.cfg.Hosts != nil {
		host = c.cfg.Hosts[i].Addr
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// brokerPorts of one broker, by listener.
type brokerPorts struct{ plaintext, mutualTLS, sasl, controller int }

func (c *Cluster) ports() ([]brokerPorts, error) {
	taken := map[int]bool{}
	all := make([]brokerPorts, c.cfg.Brokers)
	if c.cfg.Port > 0 {
		all[0].plaintext, taken[c.cfg.Port] = c.cfg.Port, true
	}
	for i := range all {
		for _, port := range []*int{&all[i].plaintext, &all[i].mutualTLS, &all[i].sasl, &all[i].controller} {
			for *port == 0 {
				free, err := freePort()
				if err != nil {
					return nil, err
				}
				if !taken[free] {
					*port, taken[free] = free, true
				}
			}
		}
	}
	return all, nil
}

// properties returns the configuration of the broker at an index. Sessions may be
// short and a rebalance begins at once, so that a test of groups need not wait for
// what it does not measure; a broker that is silent for 4 s is given up.
func (c *Cluster) properties(i int, ports []brokerPorts, keyStore, password string) string {
	var voters []string
	for j, p := range ports {
		voters = append(voters, fmt.Sprintf("%d@%s", j+1, c.listen(j, p.controller)))
	}
	p, replicas, inSync := ports[i], min(3, len(ports)), min(2, len(ports))
	return fmt.Sprintf(`process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://%[3]s,SSL://%[4]s,SASL_SSL://%[5]s,CONTROLLER://%[6]s
advertised.listeners=PLAINTEXT://%[3]s,SSL://%[4]s,SASL_SSL://%[5]s
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
log.dirs=%[7]s
auto.create.topics.enable=false
default.replication.factor=%[8]d
min.insync.replicas=%[9]d
offsets.topic.replication.factor=%[8]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%[8]d
transaction.state.log.min.isr=%[9]d
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=100
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
ssl.keystore.type=PEM
ssl.keystore.location=%[10]s
ssl.truststore.type=PEM
ssl.truststore.location=%[11]s
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_%[12]s="%[13]s";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
`, i+1, strings.Join(voters, ","), c.listen(i, p.plaintext), c.listen(i, p.mutualTLS), c.listen(i, p.sasl), c.listen(i, p.controller),
		c.path(fmt.Sprintf("broker-%d", i+1)), replicas, inSync, keyStore, c.access.CAFile, username, password)
}

// format makes the folders of data ready, with the passwords of the SCRAM mechanisms.
func (c *Cluster) format(ctx context.Context, password string) error {
	failed := make([]error, len(c.brokers))
	var all sync.WaitGroup
	for i, b := range c.brokers {
		all.Go(func() {
			args := javaArgs(c.cfg.Jars, "-Xmx128m", "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", b.properties)
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, username, password))
			}
			if out, err := exec.CommandContext(ctx, "java", args...).CombinedOutput(); err != nil {
				failed[i] = fmt.Errorf("format the folder of broker %d: %w\n%s", i+1, err, out)
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

func randomPassword() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

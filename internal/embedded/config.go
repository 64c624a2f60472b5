package embedded

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
)

// writeConfig writes the engine's configuration into dir and returns the name of its main file. The engine
// is sized for a machine that it shares with everything else: a ClickHouse server's defaults would take
// gigabytes of caches.
func writeConfig(dir string, memoryLimitBytes int64) (string, error) {
	var escaped bytes.Buffer
	if err := xml.EscapeText(&escaped, []byte(dir)); err != nil {
		return "", err
	}
	config := filepath.Join(dir, "engine.xml")
	for name, text := range map[string]string{
		config:                          fmt.Sprintf(engineConfig, escaped.String(), memoryLimitBytes, keepFreeBytes),
		filepath.Join(dir, "users.xml"): usersConfig,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return config, nil
}

// Durability: an answered insert is in files that were fsynced, so it survives the machine, and a merge is
// fsynced before the parts that it replaces go. That is why those parts need not be kept for the usual eight
// minutes, during which thousands of small ones would fill memory.
//
// However much of a table is not whole, it is set aside, and the engine starts: openWhole has it forgotten. By default
// more than 100 parts, or 1 GiB, would keep the engine from ever starting again.
const engineConfig = `<!-- Written at each start; changes are lost. -->
<clickhouse>
	<users_config>%[1]s/users.xml</users_config>
	<logger>
		<log>%[1]s/engine.log</log>
		<size>10M</size>
		<count>2</count>
	</logger>
	<log-level>error</log-level>
	<access_control_improvements>
		<table_engines_require_grant>true</table_engines_require_grant>
	</access_control_improvements>

	<max_server_memory_usage>%[2]d</max_server_memory_usage>
	<mark_cache_size>33554432</mark_cache_size>
	<index_mark_cache_size>8388608</index_mark_cache_size>
	<primary_index_cache_size>16777216</primary_index_cache_size>
	<uncompressed_cache_size>0</uncompressed_cache_size>
	<query_condition_cache_size>8388608</query_condition_cache_size>
	<compiled_expression_cache_size>16777216</compiled_expression_cache_size>
	<max_thread_pool_free_size>8</max_thread_pool_free_size>
	<max_io_thread_pool_size>16</max_io_thread_pool_size>
	<max_io_thread_pool_free_size>0</max_io_thread_pool_free_size>
	<background_pool_size>2</background_pool_size>

	<storage_configuration><disks><default><keep_free_space_bytes>%[3]d</keep_free_space_bytes></default></disks></storage_configuration>

	<merge_tree>
		<fsync_after_insert>1</fsync_after_insert>
		<fsync_part_directory>1</fsync_part_directory>
		<min_rows_to_fsync_after_merge>1</min_rows_to_fsync_after_merge>
		<old_parts_lifetime>30</old_parts_lifetime>
		<max_suspicious_broken_parts>1000000000</max_suspicious_broken_parts>
		<max_suspicious_broken_parts_bytes>1000000000000000</max_suspicious_broken_parts_bytes>
	</merge_tree>
</clickhouse>
`

// An insert answers when its rows are in the table, not when they are queued.
//
// The engine does not ask who is calling, so what callers may do is listed here: to read, write and define
// tables, views and databases of its own. What reads other machines or this machine's files is left out:
// SOURCES (table functions, and with table_engines_require_grant in the main file also table engines and
// database engines), dictionaries, functions that run programs, named collections, disks defined in a statement
// (merge_tree_disk), backups. So is SYSTEM, a statement of which stops the engine without ending it.
//
// Some doors have no lock here: the function file(), and the table engines that ClickHouse does not count
// among the sources, such as EmbeddedRocksDB and Executable. Those are the sandbox's (enterSandbox), as
// everything above is once more.
//
// A thread for each 64 MiB of free memory: by ClickHouse's default of 1 GiB an engine that is bounded to one would answer
// every question on a single thread.
//
// By log_comment a statement is found to be cancelled (session.kill), so no statement may change it.
const usersConfig = `<!-- Written at each start; changes are lost. -->
<clickhouse>
	<profiles>
		<default>
			<async_insert>0</async_insert>
			<max_threads_min_free_memory_per_thread>67108864</max_threads_min_free_memory_per_thread>
			<constraints>
				<log_comment><const/></log_comment>
				<merge_tree_disk><const/></merge_tree_disk>
			</constraints>
		</default>
	</profiles>
	<quotas><default/></quotas>
	<users>
		<default>
			<password/>
			<profile>default</profile>
			<quota>default</quota>
			<networks><ip>::/0</ip></networks>
			<grants>
				<query>GRANT SHOW, SELECT, INSERT, ALTER, TRUNCATE, OPTIMIZE, CHECK, KILL QUERY ON *.*</query>
				<query>GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP DATABASE, DROP TABLE, DROP VIEW ON *.*</query>
			</grants>
		</default>
	</users>
</clickhouse>
`

"""The engine's configuration files: what it may not do, its memory, its durability, its logs.

chDB reads one file at open and has one user, ``default``; our two users exist in front of it. Its grants are therefore
what both share, and what only the reader may not do is refused before the engine (``guard.py``).
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.sax.saxutils import escape

# Files and addresses are no source of a warehouse: not for the full user either. SHUTDOWN would end this process.
_GRANTS = ("GRANT ALL ON *.*", "REVOKE SOURCES ON *.*", "REVOKE SYSTEM SHUTDOWN ON *.*")

# Settings whose value is an expression, or another language: the guard would not see what they run.
_FROZEN = ("additional_result_filter", "additional_table_filters", "parallel_replicas_custom_key", "dialect")

_CONFIG = """<clickhouse>
    <users_config>{users}</users_config>
    <max_server_memory_usage_to_ram_ratio>{memory_ratio}</max_server_memory_usage_to_ram_ratio>
    <mark_cache_size>536870912</mark_cache_size>
    <access_control_improvements>
        <settings_constraints_replace_previous>true</settings_constraints_replace_previous>
    </access_control_improvements>
    <!-- kill -9 loses nothing without these; they keep what was acknowledged through a power cut. -->
    <merge_tree>
        <fsync_after_insert>1</fsync_after_insert>
        <fsync_part_directory>1</fsync_part_directory>
        <min_rows_to_fsync_after_merge>1</min_rows_to_fsync_after_merge>
    </merge_tree>
    <storage_configuration>
        <disks><default><keep_free_space_bytes>{keep_free}</keep_free_space_bytes></default></disks>
    </storage_configuration>
    <query_log>
        <database>system</database>
        <table>query_log</table>
        <flush_interval_milliseconds>2000</flush_interval_milliseconds>
        <engine>ENGINE = MergeTree PARTITION BY event_date ORDER BY event_time TTL event_date + INTERVAL 3 DAY</engine>
    </query_log>
</clickhouse>
"""

_USERS = """<clickhouse>
    <profiles>
        <default>
            <max_memory_usage>{query_memory}</max_memory_usage>
            <constraints>{constraints}</constraints>
        </default>
    </profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>{grants}</grants>
        </default>
    </users>
</clickhouse>
"""


def write_configuration(folder: Path, *, memory_ratio: float, keep_free: int) -> Path:
    """Write the engine's files into ``folder`` and return the main one.

    The engine refuses inserts and merges (code 243) that would leave less than ``keep_free`` bytes on the disk: one
    that is full to the last byte cannot even write the part that a deletion needs.
    ``memory_ratio`` is the share of the machine's memory that all queries together may take; one may take 2/3 of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    users, config = folder / "users.xml", folder / "config.xml"
    users.write_text(
        _USERS.format(
            grants="".join(f"<query>{grant}</query>" for grant in _GRANTS),
            constraints="".join(f"<{name}><readonly/></{name}>" for name in _FROZEN),
            query_memory=int(_memory() * memory_ratio * 2 / 3),
        )
    )
    config.write_text(_CONFIG.format(users=escape(str(users)), memory_ratio=memory_ratio, keep_free=keep_free))
    return config


def _memory() -> int:
    """Bytes of memory: the machine's, or the container's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total

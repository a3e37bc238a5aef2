"""The engine's configuration files: what it may not do, its memory, its logs.

chDB reads one file at open and has one user, ``default``: our two users exist in front of it. Its grants are therefore
what everybody shares, and what only the reader may not do is refused before the engine (``engine.py``).
"""

from __future__ import annotations

from pathlib import Path

# Reading files or addresses of this machine is no part of a warehouse: not for the full user either.
_GRANTS = ("GRANT ALL ON *.*", "REVOKE FILE ON *.*", "REVOKE URL ON *.*")

_CONFIG = """<clickhouse>
    <users_config>{users}</users_config>
    <max_server_memory_usage_to_ram_ratio>{memory_ratio}</max_server_memory_usage_to_ram_ratio>
    <query_log>
        <database>system</database>
        <table>query_log</table>
        <flush_interval_milliseconds>2000</flush_interval_milliseconds>
    </query_log>
</clickhouse>
"""

_USERS = """<clickhouse>
    <profiles><default/></profiles>
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


def write_configuration(folder: Path, *, memory_ratio: float) -> Path:
    """Write the engine's files into ``folder`` and return the main one."""
    folder.mkdir(parents=True, exist_ok=True)
    users, config = folder / "users.xml", folder / "config.xml"
    users.write_text(_USERS.format(grants="".join(f"<query>{grant}</query>" for grant in _GRANTS)))
    config.write_text(_CONFIG.format(users=users, memory_ratio=memory_ratio))
    return config

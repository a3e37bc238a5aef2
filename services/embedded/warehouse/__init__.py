"""The embedded warehouse: ClickHouse's own engine (chDB) in one process, behind ClickHouse's HTTP interface.

chDB opens a directory for one process only, and the platform is many processes. So one process owns the directory and
serves the others over HTTP, where clickhouse-connect, dbt-clickhouse, SQLAlchemy and clickhouse-go use it unmodified;
in production the same clients talk to a real ClickHouse server.

What belongs here: the server. What does not: any client (``resources/warehouse.py``), any table of ours
(``resources/migrations``). It serves one machine: it listens on loopback only.
"""

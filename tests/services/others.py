"""PostgreSQL, Redis, a MongoDB-protocol server, Temporal's test server: each with an empty store of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.services.install import java, mongo_server, postgres_binaries, program, run, temporal_jars
from tests.services.process import HarnessError, answers, end, free_port, spawn, wait_for

Stop = Callable[[], None]

POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "log_min_messages": "warning",
}


def _unprivileged(folder: Path) -> str | None:
    """Give the folder to a user that PostgreSQL accepts to run as: it refuses root."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        return name
    raise HarnessError("PostgreSQL refuses to run as root and there is neither a user postgres nor nobody")


def postgres(folder: Path) -> tuple[str, Stop]:
    """Start PostgreSQL; returns its URL, with user and password, and how to stop it."""
    binaries, port, password = postgres_binaries(), free_port(), secrets.token_urlsafe(12)
    user = _unprivileged(folder)
    secret = folder / "password"
    secret.write_text(password)
    if user:
        shutil.chown(secret, user)
    data, log = folder / "data", folder / "log"
    group = {"user": user, "group": pwd.getpwnam(user).pw_gid} if user else {}
    options = ["--username=isthmus", "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
    run([str(binaries / "initdb"), "-D", str(data), *options], cwd=folder, **group)
    settings = [word for name, value in POSTGRES_SETTINGS.items() for word in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *settings]
    pid = spawn(command, log=log, user=user, cwd=folder)
    url = f"postgresql://isthmus:{password}@127.0.0.1:{port}/postgres"
    wait_for(lambda: _accepts(url), pid, what="PostgreSQL", log=log)
    return url, lambda: end(pid, signal.SIGINT)  # its "fast" stop: SIGTERM would wait for every client


def _accepts(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def redis(folder: Path) -> tuple[str, Stop]:
    """Start Redis; returns its URL and how to stop it."""
    port, log = free_port(), folder / "log"
    server = program("redis-server", "redis-server")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    pid = spawn([server, *options], log=log)
    wait_for(lambda: answers(port), pid, what="Redis", log=log)
    return f"redis://127.0.0.1:{port}/0", lambda: end(pid)


def mongo(folder: Path) -> tuple[str, Stop]:
    """Start the MongoDB-protocol server; returns its URL and how to stop it."""
    port, log = free_port(), folder / "log"
    data = folder / "data"
    data.mkdir()
    pid = spawn([str(mongo_server()), f"127.0.0.1:{port}", str(data)], log=log)
    wait_for(lambda: answers(port), pid, what="FerretDB", log=log)
    return f"mongodb://127.0.0.1:{port}/", lambda: end(pid)


def temporal(folder: Path) -> tuple[str, Stop]:
    """Start Temporal's test server, its state in memory; returns its address and how to stop it."""
    port, log = free_port(), folder / "log"
    virtual_machine = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{temporal_jars()}/*"]
    command = [java(), *virtual_machine, "io.temporal.testserver.TestServer", str(port)]
    pid = spawn(command, log=log)
    wait_for(lambda: answers(port), pid, what="Temporal's test server", log=log)
    return f"127.0.0.1:{port}", lambda: end(pid)

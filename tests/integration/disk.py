"""A disk of a few megabytes, which a test fills and frees: a tmpfs of its own. Only root may mount one."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MB = 1 << 20


@dataclass(frozen=True)
class Disk:
    """A file system at ``path`` that holds nothing but what the test puts there."""

    path: Path

    def fill(self, *, leaving_mb: int = 0) -> None:
        """Take the room that is left, but for ``leaving_mb``."""
        with (self.path / "filler").open("ab", 0) as file:
            free = int(subprocess.check_output(["df", "--output=avail", "-B1", self.path]).split()[-1])
            with contextlib.suppress(OSError):
                for size in [MB] * ((free - leaving_mb * MB) // MB) + ([] if leaving_mb else [4096] * 256):
                    file.write(bytes(size))

    def free(self) -> None:
        """Give back what :meth:`fill` took."""
        (self.path / "filler").unlink()


@contextlib.contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[Disk]:
    """Mount a file system of ``megabytes`` at ``path``; skips the test where that is not allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a small disk cannot be had here: no `mount`")
    if done.returncode:
        pytest.skip(f"a small disk cannot be had here (that needs root): {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)

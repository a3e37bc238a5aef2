"""``python -m services.embedded.broker --path DIR --port N``: serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import resource
import signal
import sys
from pathlib import Path

from services.embedded.broker.core import Broker, Options
from services.embedded.broker.errors import StartError
from services.embedded.broker.server import Server


def _loopback(text: str) -> str:
    try:
        if ipaddress.ip_address(text).is_loopback:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"{text} is not a loopback address; this broker has no authentication and serves its own machine only"
    )


def _parse(arguments: list[str] | None = None) -> tuple[Path, Options]:
    parser = argparse.ArgumentParser(
        prog="python -m services.embedded.broker",
        description="A Kafka-protocol broker for one machine and for development only. In production: Apache Kafka.",
    )
    parser.add_argument("--path", type=Path, required=True, help="data folder; one process at a time")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="a loopback address")
    parser.add_argument("--partitions", type=int, default=1, help="of a topic that is created without a number")
    parser.add_argument(
        "--auto-create", action=argparse.BooleanOptionalAction, default=True, help="create topics at first use"
    )
    parser.add_argument(
        "--fsync",
        choices=("always", "interval", "never"),
        default="interval",
        help="when records go to the disk: before each answer, every --fsync-seconds, when the system likes",
    )
    parser.add_argument("--fsync-seconds", type=float, default=1.0)
    parser.add_argument("--retention-seconds", type=float, default=2.0, help="how often retention is applied")
    parser.add_argument("--keep-free-mb", type=int, default=64, help="disk space that produced records leave free")
    given = vars(parser.parse_args(arguments))
    return given.pop("path"), Options(**given)


async def _serve(folder: Path, options: Options) -> None:
    broker = Broker(folder, options)
    server = Server(broker)
    try:
        await server.start()
        broker.start()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        logging.getLogger(__name__).warning("for one machine and for development only; in production: Apache Kafka")
        print(f"ready {options.host}:{options.port}", flush=True)
        await stopped.wait()
        await server.stop()
    finally:
        await broker.close()


def main() -> int:
    """Run the broker; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s broker: %(message)s", stream=sys.stderr)
    folder, options = _parse()
    # A file per segment and a socket per client: the usual soft limit of 1,024 is soon reached.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        import uvloop

        run = uvloop.run
    except ImportError:  # no wheel for Windows
        run = asyncio.run
    try:
        run(_serve(folder, options))
    except StartError as problem:
        print(f"cannot start: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        print(f"cannot start on {options.host}:{options.port} with {folder}: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

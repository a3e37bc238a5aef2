"""``python -m services.launcher --home DAGSTER_HOME [--owner PID]``: run the pool."""

from __future__ import annotations

import argparse
import logging
import sys

from services.launcher.pool import run


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description="Warm pool: a fork per Dagster run.")
    parser.add_argument("--home", required=True, help="DAGSTER_HOME of the instance")
    parser.add_argument("--owner", type=int, help="end when this process has ended and the last run with it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    return run(arguments.home, arguments.owner)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.load.build ARGUMENTS``: dbt on the warehouse of the settings; the process becomes dbt's."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from assets.bi.project import dbt_environment, dbt_executable, prepared_folder
from resources.settings import get_settings


def main() -> None:
    """Become dbt."""
    target = Path(get_settings().home).resolve() / "dbt"
    target.mkdir(parents=True, exist_ok=True)
    cached = target / "partial_parse.msgpack"
    if not cached.exists() and (prepared := prepared_folder() / cached.name).exists():
        shutil.copy(prepared, cached)  # parsing the project is most of a small build
    env = {**dbt_environment(), "DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target)}
    os.execve(dbt_executable(), [dbt_executable(), *sys.argv[1:]], env)


if __name__ == "__main__":
    main()

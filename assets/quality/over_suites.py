"""What assets have in common that look at every table with a suite: where they stand, and how fresh they are.

What belongs here: their spec. What does not: what they look for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from ml.quality import Suite


def over_suites(
    key: dg.AssetKey,
    *,
    kinds: set[str],
    description: str,
    suites: Sequence[Suite],
    metadata: Mapping[str, Any] | None = None,
) -> dg.AssetSpec:
    """Return the spec of an asset that is made once a day from the tables of ``suites``."""
    return dg.AssetSpec(
        key,
        deps=[dg.AssetKey(suite.asset.split("/")) for suite in suites],
        group_name="quality",
        owners=["team:data"],
        kinds=kinds,
        description=description,
        code_version="1",
        metadata=metadata,
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=26), warn_window=timedelta(hours=25)
        ),
    )

"""The code location: the rooms merged into one ``Definitions``, nothing else.

No I/O and no reading of the environment here: resources connect when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

import assets.bi.assets
import assets.compliance
import assets.decisions
import assets.incidents
import assets.landing
import assets.quality
import assets.sagas
import assets.sources
from assets.bi.project import DbtResource
from jobs import build, compliance, incidents, landing, privacy, sources
from resources.kafka import KafkaResource
from resources.registry import RegistryResource
from resources.warehouse import WarehouseResource
from sensors.bursts import burst_sensor
from sensors.drift import drift_sensor
from sensors.failures import run_failure_sensor
from sensors.landing import landing_sensor

#: The capabilities, left to right as an event goes.
CAPABILITIES = (
    assets.landing,
    assets.bi.assets,
    assets.quality,
    assets.sagas,
    assets.decisions,
    assets.incidents,
    assets.sources,
    assets.compliance,
)


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the code location's definitions; a test overrides the resources it replaces."""
    resources = {
        "warehouse": WarehouseResource(),
        "kafka": KafkaResource(),
        "registry": RegistryResource(),
        "dbt": DbtResource(),
    }
    return dg.Definitions(
        assets=dg.load_assets_from_modules(CAPABILITIES),
        asset_checks=dg.load_asset_checks_from_modules(CAPABILITIES),
        jobs=[
            landing.landing_job,
            build.hourly_build_job,
            build.daily_train_job,
            build.daily_report_job,
            build.everything_job,
            incidents.saga_burst_job,
            incidents.policy_after_burst_job,
            sources.sources_job,
            compliance.compliance_job,
            privacy.privacy_job,
        ],
        schedules=[
            build.hourly_build_schedule,
            build.daily_train_schedule,
            build.daily_report_schedule,
            sources.sources_schedule,
            compliance.compliance_schedule,
            privacy.privacy_schedule,
        ],
        sensors=[landing_sensor, burst_sensor, drift_sensor, run_failure_sensor],
        resources={**resources, **(resource_overrides or {})},
        # One process a run: starting one for each step costs more than most steps take.
        executor=dg.in_process_executor,
    )


defs = build_defs()

"""Quality of the landed and mart tables: suites, their evaluation as asset checks, the report, monitors over time."""

import dagster as dg

from assets.quality.cell_scan import quality_cells
from assets.quality.monitors import quality_monitors
from assets.quality.pii import pii_inventory
from assets.quality.redaction import quality_redacted
from assets.quality.report import REPORT, check_specs, quality_report
from assets.quality.verdicts import quality_verdicts

#: The report with every check that it evaluates; selecting the report alone leaves out the checks on other assets.
QUALITY = dg.AssetSelection.assets(REPORT) | dg.AssetSelection.checks(*(spec.key for spec in check_specs()))

__all__ = [
    "QUALITY",
    "pii_inventory",
    "quality_cells",
    "quality_monitors",
    "quality_redacted",
    "quality_report",
    "quality_verdicts",
]

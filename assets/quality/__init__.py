"""Quality of the landed and mart tables: suites, their evaluation as asset checks, and the report."""

from assets.quality.report import quality_report

__all__ = ["quality_report"]

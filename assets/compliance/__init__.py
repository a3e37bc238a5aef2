"""Compliance: rights of persons, retention kept, access audited, the record of processing, and one report of it all."""

from assets.compliance.access_audit import access_audit
from assets.compliance.erasures import erasures
from assets.compliance.record import record_of_processing
from assets.compliance.report import compliance_report
from assets.compliance.retention import retention

__all__ = ["access_audit", "compliance_report", "erasures", "record_of_processing", "retention"]

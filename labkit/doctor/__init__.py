"""The lab checks itself: what it needs is tried here, not assumed."""

from labkit.doctor.examine import examine
from labkit.doctor.report import Finding, Report, Status

__all__ = ["Finding", "Report", "Status", "examine"]

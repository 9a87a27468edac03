"""The lab checks itself: it tries everything that it needs."""

from labkit.doctor.examine import examine
from labkit.doctor.report import Diagnosis, Examination, Status

__all__ = ["Diagnosis", "Examination", "Status", "examine"]

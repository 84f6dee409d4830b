"""Examines scenes before a GPU hour is spent on them: integrity, plausibility, and the convention of their cameras.

diagnosis = diagnose(dataset, scene_id, profile)
print(diagnosis.level, diagnosis.convention)
"""

from gen3r_bench.datasets.doctor.examine import diagnose, examine
from gen3r_bench.datasets.doctor.findings import Diagnosis, Finding, Level

__all__ = ["Diagnosis", "Finding", "Level", "diagnose", "examine"]

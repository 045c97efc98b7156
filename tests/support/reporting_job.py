"""A job that only reports: python -m support.reporting_job RESULT URL DEFOCUS CONFIGURATION PAUSE_S

It prints one line after each report that has returned. The test that kills it therefore knows what was reported.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from stemphony import paths
from stemphony.paths import ResultPaths
from stemphony.status.reporter import JobReporter
from stemphony.status.settings import ReportingSettings

from support.haste import HASTE

TOTALS = {
    "id": "2c0b3d0e-2f0b-4a55-8a2e-0d6c0c6a2b11",
    "num_threads": 1,
    "num_processors": 2,
    "num_defoci": 4,
    "num_configurations": 5,
}


def main(root: str, url: str, defocus: str, configuration: str, pause_s: str) -> None:
    """Report a whole job, percent by percent."""
    result, identifier = ResultPaths(Path(root)), paths.defocus_id(float(defocus))
    job = JobReporter(
        ReportingSettings(reporting=True, url=url),
        TOTALS,
        defocus_nm=float(defocus),
        defocus_index=int(float(defocus)),
        configuration_index=int(configuration),
        run=1,
        attempt=1,
        job=paths.job_name(identifier, int(configuration)),
        reports_dir=result.events(1),
        marker_file=result.defocus_claim(1, identifier),
        warn=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201
        limits=HASTE,
    )
    job.start()
    _say(0)
    for percent in range(1, 100):
        time.sleep(float(pause_s))
        job.progress(percent / 100)
        _say(percent)
    job.finish()
    job.close()


def _say(percent: int) -> None:
    print(percent, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])

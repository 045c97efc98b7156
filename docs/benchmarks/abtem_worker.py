"""abTEM's side of `make bench-peers`. It runs in abTEM's own environment and computes waves on request.

Each request is a JSON line on standard input. `{"load": FILE, "extent": [x, y], "slice_thickness": dz, …}` gives the
projected potentials. `{"defocus": C, "positions": [[x, y], …], "batch": B, "effort": FLAG}` asks for waves. Each answer
is a JSON line with CPU seconds. Lengths are in Å.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import abtem
import numpy as np


def load(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The given potential as an object of abTEM. abTEM does not compute a potential of its own."""
    arrays = np.load(request["load"])
    return abtem.PotentialArray(arrays, slice_thickness=request["slice_thickness"], extent=request["extent"]), request


def waves(potential: Any, optics: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Signals of one defocus at some positions, and their cost in CPU seconds."""
    abtem.config.set({"fftw.planning_effort": request["effort"]})
    begin = time.process_time()
    probe = abtem.Probe(
        energy=optics["energy"], semiangle_cutoff=optics["semiangle_mrad"], soft=True,
        aberrations={"C10": -request["defocus"]},
    )  # fmt: skip
    probe.grid.match(potential)
    scan = abtem.CustomScan(np.array(request["positions"]))
    detector = abtem.AnnularDetector(*optics["detector_mrad"])
    measured = probe.scan(potential, scan=scan, detectors=detector, max_batch=request["batch"], lazy=True)
    # dask computes in this thread, because this has the smallest overhead.
    signals = np.asarray(measured.compute(scheduler="synchronous", progress_bar=False).array)
    return {"cpu_s": time.process_time() - begin, "signals": signals.ravel().tolist()}


def main() -> None:
    """Answer requests until standard input ends."""
    abtem.config.set(
        {"fft": "fftw", "fftw.threads": 1, "fftw.planning_timelimit": 600, "fftw.allow_fallback": False,
         "precision": "float32", "diagnostics.progress_bar": False}
    )  # fmt: skip
    answers, sys.stdout = sys.stdout, sys.stderr  # the output of libraries must not mix with the answers
    print(json.dumps({"version": abtem.__version__, "startup_cpu_s": time.process_time()}), file=answers, flush=True)
    potential, optics = None, {}
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            potential, optics = load(request)
            answer: dict[str, Any] = {}
        else:
            answer = waves(potential, optics, request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

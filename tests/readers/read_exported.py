"""Open exported files with HyperSpy and py4DSTEM, and print what these programs see as one JSON object.

It runs in the environment of envs/readers.lock.txt and knows nothing of Stemphony:
`.venv-readers/bin/python tests/readers/read_exported.py FILE…`
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")


def with_hyperspy(file: Path) -> dict:
    """Axes in the order of the array, values, metadata, and the centre of mass from HyperSpy's calibrated axes."""
    import hyperspy.api as hs

    signal = hs.load(file)
    axes = {
        axis.name: {"scale": axis.scale, "offset": axis.offset, "units": str(axis.units), "size": axis.size}
        for axis in signal.axes_manager._axes
    }
    found = {
        "class": type(signal).__name__, "order": list(axes), "axes": axes, "values": signal.data.tolist(),
        "navigation": [axis.name for axis in signal.axes_manager.navigation_axes],
        "tem": signal.metadata.get_item("Acquisition_instrument.TEM").as_dictionary()
        if signal.metadata.has_item("Acquisition_instrument.TEM") else None,
        "original": signal.original_metadata.as_dictionary(),
    }  # fmt: skip
    if {"kx", "ky"} <= set(axes):
        total = signal.sum(axis=("kx", "ky")).data
        for name in ("kx", "ky"):
            along = signal.sum(axis="ky" if name == "kx" else "kx")
            found[f"center_{name}"] = ((along.data * along.axes_manager[name].axis).sum(axis=-1) / total).tolist()
        at = signal.inav[0.4, 0.3]  # coordinates in nm
        found["at"] = at.data.tolist()
    return found


def with_py4dstem(file: Path) -> dict:
    """Shape, calibration and metadata, and the centre of mass that py4DSTEM's own DPC measures."""
    import py4DSTEM

    data = py4DSTEM.read(file)
    found = {
        "class": type(data).__name__, "values": data.data.tolist(),
        "dims": [list(map(float, dim)) for dim in data.dims],
        "dim_units": list(data.dim_units), "dim_names": list(data.dim_names),
        "metadata": dict(data.root.metadata["stemphony"]._params),
    }  # fmt: skip
    if found["class"] == "DataCube":
        calibration = data.calibration
        found["calibration"] = {
            "Q": calibration.get_Q_pixel_size(), "Q_units": calibration.get_Q_pixel_units(),
            "R": calibration.get_R_pixel_size(), "R_units": calibration.get_R_pixel_units(),
            "origin": [float(value) for value in calibration.get_origin()], "flip": bool(calibration.get_QR_flip()),
            "semiangle": calibration.get_probe_semiangle(),
        }  # fmt: skip
        dpc = py4DSTEM.process.phase.DPC(datacube=data, energy=100e3, verbose=False)
        dpc.preprocess(
            force_com_rotation=0, force_com_transpose=False, plot_center_of_mass=False, plot_rotation=False,
            fit_function="constant",
        )  # fmt: skip
        # In pixels from the corner of the pattern.
        found["center"] = [dpc._com_measured_x.tolist(), dpc._com_measured_y.tolist()]
        found["sampling"] = [float(dpc._scan_sampling[0]), float(dpc._angular_sampling[0])]
    return found


if __name__ == "__main__":
    readers = {".hspy": with_hyperspy, ".tif": with_hyperspy, ".emd": with_py4dstem}
    files = [Path(name) for name in sys.argv[1:]]
    seen = {file.name: readers[file.suffix](file) for file in files}
    sys.stdout.write(json.dumps(seen, default=float) + "\n")

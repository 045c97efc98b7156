"""Write TIFF for ImageJ: one image of 32-bit floats, with the size of its pixels and the facts as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.export.contents import Image, facts_of


def write_image(path: Path, image: Image, facts: dict[str, Any]) -> None:
    """Write the `image` of a window to the file `path` as a figure shows it: x to the right and y up.

    So the first row has the largest y. `facts` about the whole result become the text that ImageJ shows.
    """
    import tifffile

    x, y = image.scan.axes
    rows = np.ascontiguousarray(image.values.T[::-1], dtype=np.float32)
    steps = [axis.step for axis in (x, y)]
    text = {"name": image.name, "long_name": image.long_name, "units": image.units, **facts, **facts_of(image)}
    text |= {"x_first_nm": float(x.values[0]), "y_first_nm": float(y.values[0])}
    text |= {"x_step_nm": steps[0], "y_step_nm": steps[1], "rows": "the first row has the largest y"}
    calibration: dict[str, Any] = {}
    if steps[0] and steps[1]:
        calibration = {"resolution": (1 / steps[0], 1 / steps[1])}
    tifffile.imwrite(
        path, rows, imagej=True, **calibration,
        metadata={"axes": "YX", "unit": "nm", "Info": json.dumps(text, indent=1), "Labels": [image.name]},
    )  # fmt: skip

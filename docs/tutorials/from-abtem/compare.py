"""Largest differences between the images of abtem_script.py and the result of config.yaml."""

import sys

import netCDF4
import numpy as np

theirs = np.load(sys.argv[1])
with netCDF4.Dataset(sys.argv[2]) as result:
    for name in theirs:
        ours = result["images"][name][0, 0, -1]
        print(f"{name}: {abs(ours - theirs[name]).max() / theirs[name].max():.1e} of the maximum")

"""The same simulation as config.yaml, in abTEM: HAADF and BF images of one unit cell of SrTiO3 [001] at rest."""

import abtem
import ase
import numpy as np

a = 3.905
sto = ase.Atoms(
    "SrTiO3",
    scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
    cell=[a, a, a],
    pbc=True,
)
atoms = sto * (4, 4, 5)
potential = abtem.Potential(
    atoms, gpts=(256, 256), slice_thickness=a / 2, parametrization="kirkland", projection="infinite"
)
probe = abtem.Probe(energy=200e3, semiangle_cutoff=20, C10=-20)  # 2 nm underfocus
probe.grid.match(potential)
scan = abtem.GridScan(start=(0, 0), end=(a, a), gpts=(16, 16))
detectors = [abtem.AnnularDetector(0, 10), abtem.AnnularDetector(60, 100)]
bf, haadf = probe.scan(potential, scan=scan, detectors=detectors).compute()
np.savez("abtem.npz", bf=bf.array, haadf=haadf.array)

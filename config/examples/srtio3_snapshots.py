"""Write 2 × 2 × 2 cells of SrTiO3 at rest, `srtio3_block.xyz`, and displaced, `srtio3_snapshots.xyz`.

The three displaced copies stand for frames of a molecular dynamics run: same atoms, same order, same cell.
They are Gaussian with the mean square displacements of the demo; a real trajectory brings correlated ones.
"""

from pathlib import Path

import numpy as np

A = 3.905  # Å
CELLS = 2
BASIS = {"Sr": [(0, 0, 0)], "Ti": [(0.5, 0.5, 0.5)], "O": [(0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)]}
U_ISO = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}  # Å²
SEED = 20240501


def main() -> None:
    """Write both files beside this script."""
    copies = np.stack(np.meshgrid(*[np.arange(CELLS)] * 3, indexing="ij"), -1).reshape(-1, 3)
    atoms = [(symbol, A * (copy + site)) for copy in copies for symbol, sites in BASIS.items() for site in sites]
    symbols = [symbol for symbol, _ in atoms]
    rest = np.array([position for _, position in atoms])
    sigma = np.sqrt([U_ISO[symbol] for symbol in symbols])[:, None]
    random = np.random.default_rng(SEED)
    frames = [rest + sigma * random.standard_normal(rest.shape) for _ in range(3)]
    folder = Path(__file__).parent
    (folder / "srtio3_block.xyz").write_text(frame(symbols, rest))
    (folder / "srtio3_snapshots.xyz").write_text("".join(frame(symbols, positions) for positions in frames))


def frame(symbols: list[str], positions: np.ndarray) -> str:
    """One frame of an extended XYZ file."""
    edge = A * CELLS
    lines = [
        str(len(symbols)),
        f'Lattice="{edge} 0 0 0 {edge} 0 0 0 {edge}" Properties=species:S:1:pos:R:3 pbc="T T T"',
        *(f"{s:2} {x:9.5f} {y:9.5f} {z:9.5f}" for s, (x, y, z) in zip(symbols, positions.tolist(), strict=True)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

"""Draw ABF and HAADF of results/rutile side by side, for a slide: `python figure.py`."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

CELLS, FINER = 3, 8  # unit cells along each axis; drawn pixels per computed pixel


def finer(image):
    """Interpolate one period of a periodic image by its Fourier series."""
    n = len(image)
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    return np.fft.ifft2(np.fft.ifftshift(np.pad(spectrum, (FINER - 1) * n // 2))).real * FINER**2


images = xr.open_datatree("results/rutile/stem.nc")["images"]
size = CELLS * 4.594  # Å; a is 4.594 Å
figure, axes = plt.subplots(1, 2, figsize=(8, 4.6))
for axis, name, title in zip(axes, ["abf", "haadf"], ["ABF, 12–24 mrad", "HAADF, 60–110 mrad"], strict=True):
    image = images[name].isel(adf_slice=-1).squeeze().transpose("adf_position_y", "adf_position_x").values
    axis.imshow(np.tile(finer(image), (CELLS, CELLS)), cmap="gray", origin="lower", extent=(0, size, 0, size))
    axis.set_title(title, fontsize=16)
    axis.set_axis_off()
    axis.set_ylim(-1, size)
# Labels beside the titanium column in the middle, at (6.9 Å, 6.9 Å), and the oxygen column at (7.8 Å, 7.8 Å).
axes[0].text(7.6, 6.5, "Ti", color="tab:red", fontsize=16, va="center")
axes[0].text(8.3, 7.9, "O", color="tab:red", fontsize=16, va="center")
axes[0].plot([0, 5], [-0.5, -0.5], color="black", linewidth=4, solid_capstyle="butt", clip_on=False)
axes[0].text(5.4, -0.5, "5 Å", fontsize=16, va="center")
figure.tight_layout()
figure.savefig("rutile.png", dpi=120)

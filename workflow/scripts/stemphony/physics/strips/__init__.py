"""The two Fourier transforms of a slice, strip by strip: a plan, and two layouts of the wave in memory."""

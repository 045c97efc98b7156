"""Frozen-phonon multislice simulation of STEM, orchestrated by Snakemake."""

__version__ = "0.1.0"

"""The computation of one job: atoms, slices, waves and detectors."""

"""The physics of the simulation: arrays in, arrays out; no files, no settings, no clock."""

"""The config, the experiment in internal units, and its table of jobs."""

"""Everything that works with Snakemake: the Snakefile, checks before a run, hooks, and what surrounds a job."""

"""Everything that works with Snakemake: the Snakefile, checks before a run, hooks, and the frame of each job."""

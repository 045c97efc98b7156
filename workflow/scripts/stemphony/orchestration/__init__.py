"""Everything that meets Snakemake: rules, hooks, and jobs around their computation."""

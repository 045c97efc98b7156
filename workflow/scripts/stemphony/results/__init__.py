"""Files of results: one per job, and the merged one."""

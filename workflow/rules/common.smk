"""The campaign that all rules share: validated, checked and planned before any rule is defined."""

import sys

# `import workflow.…` would hide Snakemake's own object `workflow`, so the package is found by its folder.
sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from stemphony.orchestration import snakefile

shell.prefix(snakefile.shell_prefix(workflow))
SESSION = snakefile.open_session(config, workflow)
CAMPAIGN = SESSION.campaign
FILES = SESSION.result
JOB_FILES = SESSION.job_files

# `ancient`: the specimen's digest is in the params of its jobs, its time of writing decides nothing. But not while it
# is about to be made anew: Snakemake does not look at the params of jobs behind one that runs, and would leave out
# those that hang on it by nothing but an ancient file.
SPECIMEN = FILES.specimen if SESSION.specimen_is_outdated else ancient(FILES.specimen)


wildcard_constraints:
    defocus=r"[pm]\d+d\d{3}",
    configuration=r"\d{4}",

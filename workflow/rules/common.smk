"""The campaign that all rules share: validated, checked and planned before any rule is defined."""

import sys

# `import workflow.…` would hide Snakemake's own object `workflow`, so the package is found by its folder.
sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from stemphony.orchestration import snakefile

shell.prefix(snakefile.shell_prefix(workflow))
SESSION = snakefile.open_session(config, workflow)
FILES = SESSION.result


# `ancient`, because the params of the jobs have the specimen's digest, so its time does not matter. But not if it will be
# made again: if an input is made in this run, Snakemake does not compare params, and an ancient input starts no job.
SPECIMEN = SESSION.specimen_input(ancient)


wildcard_constraints:
    defocus=r"[pm]\d+d\d{3}",
    configuration=r"\d{4}",
    member=r"[^/]+\.[^/]+",

"""The campaign that all rules share: validated, checked and planned before any rule is defined."""

import sys

# `import workflow.…` would hide Snakemake's own object `workflow`, so the package is found by its folder.
sys.path.insert(0, str(Path(workflow.basedir) / "workflow" / "scripts"))

from stemphony import snakefile

SESSION = snakefile.open_session(config, workflow)
CAMPAIGN = SESSION.campaign
FILES = SESSION.result


wildcard_constraints:
    defocus=r"[pm]\d+d\d{3}",
    configuration=r"\d{4}",

"""The campaign that all rules share: validated, checked and planned before any rule is defined."""

import sys

from snakemake.exceptions import WorkflowError

# The folder of this file. `workflow.basedir` is that of the main Snakefile, which may belong to another workflow.
HERE = workflow.current_basedir.get_path_or_uri(secret_free=True)
if not Path(HERE).is_dir():
    raise WorkflowError(
        f"Stemphony cannot run from {HERE}: its rules start scripts, which must be on this machine. Clone Stemphony, "
        "and give the path of its Snakefile in `module` or on the command line."
    )

# `import workflow.…` would hide Snakemake's own object `workflow`, so the package is found by its folder.
sys.path.insert(0, str(Path(HERE).parent / "scripts"))

from stemphony.orchestration import snakefile

SESSION = snakefile.open_session(config, workflow)
FILES = SESSION.result

if IS_MODULE:

    class shell(shell):
        """The `shell` of this module's rules. So the prefix below does not change the rules of the other workflow."""


shell.prefix(snakefile.shell_prefix(workflow) + SESSION.enter)


# The specimen is `ancient`: the params of jobs hold its digest, so its time does not matter. But it is not `ancient` if
# this run makes it again. Then Snakemake does not compare params, and an ancient input would start no job.
SPECIMEN = SESSION.specimen_input(ancient)


wildcard_constraints:
    defocus=r"[pm]\d+d\d{3}",
    configuration=r"\d{4}",
    member=r"[^/]+\.[^/]+",

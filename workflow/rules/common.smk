"""The campaign that all rules share: validated, checked and planned before any rule is defined."""

import sys

from snakemake.exceptions import WorkflowError

# Of this file, because `workflow.basedir` is the folder of the main Snakefile, which may be somebody else's.
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
        """The `shell` of this module's rules: what stands before their commands does not reach other rules."""


shell.prefix(snakefile.shell_prefix(workflow) + SESSION.enter)


# `ancient`, because the params of the jobs have the specimen's digest, so its time does not matter. But not if it will be
# made again: if an input is made in this run, Snakemake does not compare params, and an ancient input starts no job.
SPECIMEN = SESSION.specimen_input(ancient)


wildcard_constraints:
    defocus=r"[pm]\d+d\d{3}",
    configuration=r"\d{4}",
    member=r"[^/]+\.[^/]+",

"""Frozen-phonon multislice STEM, one job per defocus and configuration. `docs/architecture.md` is the map."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

# If this file is a `module` of another workflow, `module` gives the config, and no hook of this file runs, see
# docs/how-to/module.md.
IS_MODULE = not workflow.modifier.is_main_snakefile()
IS_FIRST = workflow.default_target is None

# The shipped config is the demo. It is read only if the user gives no config, so it never mixes with the user's config.
if not IS_MODULE and not workflow.overwrite_configfiles:

    configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/merge.smk"


if SESSION.is_sweep:

    include: "workflow/rules/sweep.smk"

elif not IS_MODULE:

    include: "workflow/rules/accuracy.smk"


if not SESSION.is_sweep and SESSION.campaign.goal is not None:

    include: "workflow/rules/rounds.smk"


rule all:
    default_target: IS_FIRST
    input:
        SESSION.targets(checkpoints),
    localrule: True


onstart:
    SESSION.run.start()


onsuccess:
    SESSION.run.success()


onerror:
    SESSION.run.error()

"""Frozen-phonon multislice STEM, one job per defocus and configuration. `docs/architecture.md` is the map."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")

# The shipped config is the demo, not a base that a user's config is merged into.
if not workflow.overwrite_configfiles:

    configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


include: "workflow/rules/common.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/merge.smk"


if SESSION.is_sweep:

    include: "workflow/rules/sweep.smk"

else:

    include: "workflow/rules/accuracy.smk"


if not SESSION.is_sweep and SESSION.campaign.goal is not None:

    include: "workflow/rules/rounds.smk"


localrules:
    all,
    prepare_specimen,
    merge_results,
    plot_results,


rule all:
    default_target: True
    input:
        SESSION.targets(checkpoints),


onstart:
    SESSION.run.start()


onsuccess:
    SESSION.run.success()


onerror:
    SESSION.run.error()

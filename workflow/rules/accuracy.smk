"""The error budget of a config: target `accuracy`. It shares no files with the jobs of the simulation."""


localrules:
    prepare_accuracy,
    merge_accuracy,
    accuracy,


wildcard_constraints:
    variant=r"[a-z_]+",


rule prepare_accuracy:
    # The structure file is not an `input`, for the reason given in prepare_specimen.
    output:
        specimen=FILES.accuracy_specimens[0],
        larger=FILES.accuracy_specimens[1],
    log:
        f"logs/prepare_accuracy/{FILES.name}/atoms.log",
    conda:
        "../../envs/simulation.yaml"
    params:
        accuracy=lambda wildcards: SESSION.accuracy_params,
    shell:
        'python "$STEMPHONY_SCRIPTS/prepare_accuracy.py" {params.accuracy:q} {output.specimen:q} {output.larger:q}'
        " > {log:q} 2>&1"


rule run_variant:
    input:
        specimen=FILES.accuracy_specimens[0],
        larger=FILES.accuracy_specimens[1],
    output:
        signals=FILES.variant("{variant}"),
    log:
        f"logs/run_variant/{FILES.name}/{{variant}}.log",
    conda:
        "../../envs/simulation.yaml"
    threads: SESSION.threads
    resources:
        mem_mb=SESSION.variant_mem_mb,
        runtime=SESSION.variant_runtime,
    params:
        variant=SESSION.variant_params,
    shell:
        'python "$STEMPHONY_SCRIPTS/run_variant.py" {params.variant:q} {input.specimen:q} {input.larger:q}'
        " {output.signals:q} {threads} > {log:q} 2>&1"


rule merge_accuracy:
    input:
        variants=lambda wildcards: SESSION.variant_files,
    output:
        budget=FILES.accuracy,
        figure=FILES.accuracy_figure,
    log:
        f"logs/merge_accuracy/{FILES.name}/budget.log",
    conda:
        "../../envs/simulation.yaml"
    params:
        budget=lambda wildcards: SESSION.budget_params,
    shell:
        'python "$STEMPHONY_SCRIPTS/merge_accuracy.py" {params.budget:q} {output.budget:q} {output.figure:q}'
        " {input.variants:q} > {log:q} 2>&1"


rule accuracy:
    input:
        FILES.accuracy,
        FILES.accuracy_figure,

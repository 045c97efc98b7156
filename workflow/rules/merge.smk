"""Merge the job files into one result, and draw its figures."""


rule merge_results:
    input:
        specimen=SPECIMEN,
        jobs=lambda wildcards: SESSION.jobs_to_merge(wildcards, checkpoints),
    output:
        # Without `update`, Snakemake would delete the old result before the merge. But the merge may refuse its inputs.
        nc=update(FILES.merged),
    log:
        f"logs/merge_results/{FILES.name}/stem.log",
    benchmark:
        f"benchmarks/merge_results/{FILES.name}/stem.tsv"
    localrule: True
    conda:
        "../../envs/simulation.yaml"
    # Large campaigns are merged in parallel parts. The number of threads does not change the result.
    threads: 4
    params:
        merge=SESSION.merge_params,
    # The params say which job files to read. As arguments, the names could exceed the limit of a command line.
    shell:
        'python "$STEMPHONY_SCRIPTS/merge_results.py" {params.merge:q} {input.specimen:q} {output.nc:q} {threads}'
        " > {log:q} 2>&1"


# A sweep has further rules of this kind, for members with other figures.
rule plot_results:
    input:
        nc=FILES.merged,
    output:
        [FILES.figure(name) for name in SESSION.figure_groups[0].figures],
    log:
        f"logs/plot_results/{FILES.name}/figures.log",
    wildcard_constraints:
        member=SESSION.figure_groups[0].members,
    localrule: True
    conda:
        "../../envs/simulation.yaml"
    shell:
        'python "$STEMPHONY_SCRIPTS/plot_results.py" {input.nc:q} {output:q} > {log:q} 2>&1'

"""From the jobs' files to one result and its figures."""


rule merge_results:
    input:
        specimen=SPECIMEN,
        jobs=SESSION.jobs_to_merge,
    output:
        # `update`: Snakemake would delete the present result before a merge that may refuse its inputs.
        nc=update(FILES.merged),
    log:
        f"logs/merge_results/{CAMPAIGN.name}/stem.log",
    benchmark:
        f"benchmarks/merge_results/{CAMPAIGN.name}/stem.tsv"
    conda:
        "../../envs/simulation.yaml"
    # Large campaigns are merged in parts, side by side; it decides no bit of the result.
    threads: 4
    params:
        merge=SESSION.merge_params,
    # The job files are not on the command line, which has a limited length: the params say which they are.
    shell:
        'python "$STEMPHONY_SCRIPTS/merge_results.py" {params.merge:q} {input.specimen:q} {output.nc:q} {threads}'
        " > {log:q} 2>&1"


rule plot_results:
    input:
        nc=FILES.merged,
    output:
        [FILES.figure(name) for name in CAMPAIGN.figures],
    log:
        f"logs/plot_results/{CAMPAIGN.name}/figures.log",
    conda:
        "../../envs/simulation.yaml"
    shell:
        'python "$STEMPHONY_SCRIPTS/plot_results.py" {input.nc:q} {output:q} > {log:q} 2>&1'

"""Make one result file per defocus and configuration from the structure file."""


rule prepare_specimen:
    # The structure file is not an `input`. Its hash is in `params`, so the rule runs again only if the content changes.
    output:
        specimen=FILES.specimen,
    log:
        f"logs/prepare_specimen/{FILES.name}/specimen.log",
    localrule: True
    conda:
        "../../envs/simulation.yaml"
    params:
        specimen=SESSION.specimen_params,
    shell:
        'python "$STEMPHONY_SCRIPTS/prepare_specimen.py" {params.specimen:q} {output.specimen:q} > {log:q} 2>&1'


rule run_multislice:
    input:
        specimen=SPECIMEN,
    output:
        nc=FILES.job("{defocus}", "{configuration}"),
    log:
        FILES.log("{defocus}", "{configuration}"),
    benchmark:
        FILES.benchmark("{defocus}", "{configuration}")
    conda:
        "../../envs/simulation.yaml"
    threads: SESSION.threads
    resources:
        mem_mb=SESSION.mem_mb,
        runtime=SESSION.runtime,
        # This is no real resource, but Snakemake gives the number of the try only to resources. A job that fails needs
        # the number to report whether another try follows.
        try_number=SESSION.try_number,
    params:
        job=SESSION.job_params,
    shell:
        "STEMPHONY_TRY={resources.try_number} STEMPHONY_RUNTIME_MIN={resources.runtime} "
        'python "$STEMPHONY_SCRIPTS/run_multislice.py" {params.job:q} {input.specimen:q} {output.nc:q} {threads}'
        " > {log:q} 2>&1"

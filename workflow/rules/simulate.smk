"""From the structure file to one result file per defocus and configuration."""


rule prepare_specimen:
    # The structure file is no `input`: what counts is its content, whose hash is in `params`, so that moving or
    # touching it recomputes nothing.
    output:
        specimen=FILES.specimen,
    log:
        f"logs/prepare_specimen/{CAMPAIGN.name}/specimen.log",
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
        # No need of the job: Snakemake tells only resources which try this is, and a job that fails reports whether
        # it has another one.
        try_number=SESSION.try_number,
    params:
        job=SESSION.job_params,
    shell:
        "STEMPHONY_TRY={resources.try_number} STEMPHONY_RUNTIME_MIN={resources.runtime} "
        'python "$STEMPHONY_SCRIPTS/run_multislice.py" {params.job:q} {input.specimen:q} {output.nc:q} {threads}'
        " > {log:q} 2>&1"

"""Judge each round of configurations. Included only if `frozen_phonon.configurations` is a goal, not a number."""


localrules:
    judge_round,


wildcard_constraints:
    round=r"\d+",


# After this job, Snakemake determines again which jobs the merge needs: those of a further round, or none.
checkpoint judge_round:
    input:
        specimen=SPECIMEN,
        jobs=lambda wildcards: SESSION.jobs_of_round(wildcards, checkpoints),
    output:
        decision=FILES.round("{round}"),
    log:
        f"logs/judge_round/{FILES.name}/round_{{round}}.log",
    conda:
        "../../envs/simulation.yaml"
    threads: 4
    params:
        judge=SESSION.judge_params,
    shell:
        'python "$STEMPHONY_SCRIPTS/judge_round.py" {params.judge:q} {input.specimen:q} {output.decision:q} {threads}'
        " > {log:q} 2>&1"

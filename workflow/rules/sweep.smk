"""The results of all members of a sweep in one file and one figure."""


rule combine_sweep:
    input:
        SESSION.merged_files,
    output:
        nc=SESSION.files.combined,
        figure=SESSION.files.figure,
    log:
        f"logs/combine_sweep/{SESSION.files.root.name}/sweep.log",
    localrule: True
    conda:
        "../../envs/simulation.yaml"
    params:
        sweep=SESSION.combine_params,
    shell:
        'python "$STEMPHONY_SCRIPTS/combine_sweep.py" {params.sweep:q} {output.nc:q} {output.figure:q} > {log:q} 2>&1'


for GROUP in SESSION.figure_groups[1:]:

    rule:
        name:
            GROUP.rule
        input:
            nc=FILES.merged,
        output:
            [FILES.figure(name) for name in GROUP.figures],
        log:
            f"logs/plot_results/{FILES.name}/figures.log",
        wildcard_constraints:
            member=GROUP.members,
        localrule: True
        conda:
            "../../envs/simulation.yaml"
        shell:
            'python "$STEMPHONY_SCRIPTS/plot_results.py" {input.nc:q} {output:q} > {log:q} 2>&1'

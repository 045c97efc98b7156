#!/usr/bin/env python3
"""Submit one job of Snakemake to Kubernetes. `submit.py JOBSCRIPT` prints the name of the Kubernetes job."""

import json
import subprocess
import sys
from pathlib import Path

# --- yours to edit ------------------------------------------------------------------------------------------------
IMAGE = "registry.example.org/stemphony:latest"  # built from envs/Dockerfile, with kubectl and envs/executors.lock.txt
CLAIM = "stemphony"  # the persistent volume claim, ReadWriteMany
MOUNT = "/simulation"  # path of the volume in all pods; the pod where Snakemake runs must have the same path
NAMESPACE = "default"
# ------------------------------------------------------------------------------------------------------------------

PROPERTIES = "# properties = "  # in a line of its script, Snakemake writes the resources of the job behind this text


def manifest(script: Path) -> dict:
    """The Kubernetes job that runs a script of Snakemake in the working directory."""
    lines = script.read_text(encoding="utf-8").splitlines()
    job = json.loads(next(line for line in lines if line.startswith(PROPERTIES))[len(PROPERTIES) :])
    needs = {"cpu": str(job["threads"]), "memory": f"{job['resources']['mem_mb']}M"}
    container = {
        "name": "job",
        "image": IMAGE,
        "command": ["/bin/sh", str(script.resolve())],
        "workingDir": str(Path.cwd()),
        "resources": {"requests": needs, "limits": needs},
        "volumeMounts": [{"name": "shared", "mountPath": MOUNT}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "stemphony-", "namespace": NAMESPACE, "labels": {"app": "stemphony"}},
        "spec": {
            "backoffLimit": 0,  # Kubernetes does not repeat a failed job, because Snakemake does
            "activeDeadlineSeconds": 60 * job["resources"]["runtime"],
            "ttlSecondsAfterFinished": 86400,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [container],
                    "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": CLAIM}}],
                }
            },
        },
    }


if __name__ == "__main__":
    answer = subprocess.run(
        ["kubectl", "create", "--filename", "-", "--output", "jsonpath={.metadata.namespace}/{.metadata.name}"],
        input=json.dumps(manifest(Path(sys.argv[1]))), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    sys.stdout.write(answer.stdout.strip() + "\n")

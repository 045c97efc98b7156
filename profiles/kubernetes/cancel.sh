#!/bin/sh
# Delete Kubernetes jobs and their pods. Each argument is NAMESPACE/NAME of a job.
for job; do
    kubectl delete job "${job#*/}" --namespace "${job%%/*}" --wait=false
done

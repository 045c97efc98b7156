#!/bin/sh
# Delete Kubernetes jobs, NAMESPACE/NAME each, and their pods.
for job; do
    kubectl delete job "${job#*/}" --namespace "${job%%/*}" --wait=false
done

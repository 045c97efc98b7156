#!/bin/sh
# Print the state of a Kubernetes job: running, success or failed. Snakemake calls this script with NAMESPACE/NAME.
if ! counted=$(kubectl get job "${1#*/}" --namespace "${1%%/*}" --ignore-not-found \
    --output 'jsonpath=job {.status.succeeded} {.status.conditions[?(@.type=="Failed")].status}'); then
    # kubectl has printed the error. If the API server cannot be reached now, the job may still run.
    echo running
    exit 0
fi
case $counted in
"job 1 "*) echo success ;;
*True*) echo failed ;;
"") echo failed ;; # the job was deleted
*) echo running ;;
esac

#!/bin/sh
# What became of a Kubernetes job: prints running, success or failed. Called by Snakemake with NAMESPACE/NAME.
if ! counted=$(kubectl get job "${1#*/}" --namespace "${1%%/*}" --ignore-not-found \
    --output 'jsonpath=job {.status.succeeded} {.status.conditions[?(@.type=="Failed")].status}'); then
    # kubectl has said why on stderr. An API server that cannot be reached now says nothing of the job.
    echo running
    exit 0
fi
case $counted in
"job 1 "*) echo success ;;
*True*) echo failed ;;
"") echo failed ;; # deleted by somebody
*) echo running ;;
esac

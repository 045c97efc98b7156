#!/bin/sh
# What became of a job of Grid Engine: prints running, success or failed. Called by Snakemake with the job's number, in the
# working directory.
job=$1
if listed=$(qstat -j "$job" 2>/dev/null); then
    # A job in error state (Eqw) stays in the queue for ever: it never began, and will not.
    case $listed in
    *"error reason"*) echo failed ;;
    *) echo running ;;
    esac
    exit 0
fi
accounted=$(qacct -j "$job" 2>/dev/null | awk '$1 == "exit_status" { print $2 == 0 ? "success" : "failed" }' | tail -n 1)
gone=.snakemake/gone_from_queue.$job
if [ -n "$accounted" ]; then
    rm -f "$gone"
    echo "$accounted"
elif [ ! -e "$gone" ]; then
    # The accounting file shows a job some time after the queue has forgotten it.
    touch "$gone"
    echo running
elif [ -n "$(find "$gone" -mmin +10)" ]; then
    # No accounting, or none of this job: waiting longer would be waiting for ever.
    rm -f "$gone"
    echo failed
else
    echo running
fi

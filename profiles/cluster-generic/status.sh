#!/bin/sh
# Print the state of a job of Grid Engine: running, success or failed. Snakemake calls this script in the working
# directory with the number of the job.
job=$1
if listed=$(qstat -j "$job" 2>/dev/null); then
    # A job in error state (Eqw) has not begun and never will. It stays in the queue for ever, so it counts as failed.
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
    # The accounting file shows a job some time after the job has left the queue. Until then, the job counts as running.
    touch "$gone"
    echo running
elif [ -n "$(find "$gone" -mmin +10)" ]; then
    # After 10 minutes, no entry of this job will come, for example because there is no accounting.
    rm -f "$gone"
    echo failed
else
    echo running
fi

#!/usr/bin/env bash
# kill-node.sh DIR NODE -- a node dies: SIGKILL, by pid, to its slurmd and to all its job steps and their
# processes. slurmctld notices after SlurmdTimeout (6 s in slurm.conf.in), marks the node DOWN and its jobs NODE_FAIL.
# start-node.sh brings it back.
set -euo pipefail
D=$(cd "${1:?usage: kill-node.sh DIR NODE}" && pwd); node=${2:?node}
pid=$(cat "$D/pids/$node")
tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "-N $node -f $D/"
# its slurmstepd processes are no children of slurmd: found by the log file of their node, which they hold open
steps=
for p in /proc/[0-9]*; do
  [[ "$( { tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null)" == slurmstepd:* ]] || continue
  if readlink "$p"/fd/* 2>/dev/null | grep -qxF "$D/log/slurmd-$node.log"; then steps+=" ${p#/proc/}"; fi
done
kids() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do kids "$c"; echo "$c"; done; }
all=$pid
for s in $steps; do all+=" $s $(kids "$s" | tr '\n' ' ')"; done
kill -KILL $all 2>/dev/null || true
rm -f "$D/pids/$node"
echo "killed $node: slurmd $pid, steps:${steps:- none}"

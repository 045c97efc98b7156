#!/usr/bin/env bash
# start-node.sh DIR NODE -- start the slurmd of a node that kill-node.sh killed, wait until it is idle.
set -euo pipefail
D=$(cd "${1:?usage: start-node.sh DIR NODE}" && pwd); node=${2:?node}
[ -e "$D/pids/$node" ] && { echo "$node: has a pid file" >&2; exit 1; }
setsid slurmd -D -N "$node" -f "$D/etc/slurm.conf" </dev/null >>"$D/log/$node.out" 2>&1 &
echo $! >"$D/pids/$node"
export SLURM_CONF=$D/etc/slurm.conf
for _ in $(seq 300); do
  case "$(sinfo -h -n "$node" -p main -o %t)" in idle|mix|alloc) echo "$node up"; exit 0 ;; esac
  sleep 0.1
done
echo "$node did not come up" >&2; exit 1

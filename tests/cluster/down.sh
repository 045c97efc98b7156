#!/usr/bin/env bash
# down.sh DIR -- stop what up.sh started in DIR, by process id only; keeps DIR/log.
set -uo pipefail
D=$(cd "${1:?usage: down.sh DIR}" && pwd) || exit 1
[ -d "$D/pids" ] || exit 0

alive() { [ -n "$1" ] && [ -d "/proc/$1" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }
# the pid is ours only while its command line or environment (slurmdbd) names this DIR
stop() {  # stop NAME [SIGNAL]
  local f=$D/pids/$1 pid
  [ -f "$f" ] || return 0
  pid=$(cat "$f")
  if alive "$pid" && { grep -qF "$D" "/proc/$pid/cmdline" || grep -qF "$D" "/proc/$pid/environ"; } 2>/dev/null; then
    kill -"${2:-TERM}" "$pid" 2>/dev/null
    for _ in $(seq 100); do alive "$pid" || break; sleep 0.05; done
    alive "$pid" && kill -KILL "$pid" 2>/dev/null
  fi
  rm -f "$f"
}

export SLURM_CONF=$D/etc/slurm.conf
# 1. cancel jobs, so that no job step survives its slurmd
if alive "$(cat "$D/pids/slurmctld" 2>/dev/null)"; then
  timeout 10 scancel --user=root 2>/dev/null
  for _ in $(seq 20); do
    [ -z "$(timeout 5 squeue -h -o %i -t R,CG,S 2>/dev/null)" ] && break; sleep 0.1
  done
fi
# 2. the nodes, then any slurmstepd left behind (its slurmd was killed): it holds a log file in DIR open
for f in "$D"/pids/node*; do [ -e "$f" ] && stop "$(basename "$f")"; done
kids() { local c; for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do kids "$c"; echo "$c"; done; }
for p in /proc/[0-9]*; do
  [[ "$( { tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null)" == slurmstepd:* ]] || continue
  readlink "$p"/fd/* 2>/dev/null | grep -qF "$D/log/" || continue
  kill -KILL "${p#/proc/}" $(kids "${p#/proc/}") 2>/dev/null
done
# 3. the rest
stop slurmctld; stop slurmdbd; stop mariadbd; stop munged
[ "$(readlink /etc/slurm/slurm.conf 2>/dev/null)" = "$D/etc/slurm.conf" ] && rm -f /etc/slurm/slurm.conf
rmdir "$D/pids" 2>/dev/null
exit 0

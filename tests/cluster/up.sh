#!/usr/bin/env bash
# up.sh -- start a real, private Slurm cluster on this one machine (Debian 12, root, no systemd).
#
#   up.sh DIR            DIR: an empty or new directory (e.g. "$(mktemp -d)"); holds everything
#
# Environment (all optional):
#   SLURM_NODES=2              number of virtual nodes (one slurmd each, node1..nodeN)
#   SLURM_CPUS=2               CPUs that each virtual node offers (may exceed the machine's)
#   SLURM_MEM_MB=4000          memory that each virtual node offers
#   SLURM_PORT=                slurmctld's port, node i listens on SLURM_PORT+i; default: 17000, or the next
#                              multiple of 20 after it with all ports free
#   SLURM_ACCOUNTING=          1: with accounting, i.e. MariaDB + slurmdbd (SLURM_PORT-1)
#
#   SLURM_ETC=                 1: also link DIR/etc/slurm.conf as /etc/slurm/slurm.conf (see below)
#
# Use it with:  . DIR/env.sh   (SLURM_CONF, and DIR/bin first in PATH).  Stop it with: down.sh DIR
#
# Why DIR/bin: snakemake-executor-plugin-slurm-jobstep drops SLURM_CONF (and every other SLURM_*) from the
# environment of its inner srun, which then reads /etc/slurm/slurm.conf. DIR/bin/srun puts SLURM_CONF back, so
# nothing outside DIR is touched and several clusters can live side by side. SLURM_ETC=1 does without it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
D=${1:?usage: up.sh DIR}
mkdir -p "$D"; D=$(cd "$D" && pwd)
N=${SLURM_NODES:-2} CPUS=${SLURM_CPUS:-2} MEM=${SLURM_MEM_MB:-4000} PORT=${SLURM_PORT:-}
ACCOUNTING=${SLURM_ACCOUNTING:-}
CONF=$D/etc/slurm.conf
HOST=$(hostname -s)

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
if [ -z "$PORT" ]; then
  for PORT in $(seq 17000 20 19980); do
    for p in $(seq $((PORT - 2)) $((PORT + N))); do listening "$p" && continue 2; done
    break
  done
fi
[ -e "$D/pids" ] && { echo "up.sh: $D is in use (run down.sh $D)" >&2; exit 1; }
if [ -n "${SLURM_ETC:-}" ] && [ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ]; then
  echo "up.sh: /etc/slurm/slurm.conf is a real file; not replaced" >&2; exit 1
fi
chmod 755 "$D"
mkdir -p "$D"/{etc,bin,log,pids,munge,state,spool}
chmod 700 "$D/state"; chmod 755 "$D/munge"

# spawn NAME CMD...: a foreground daemon in its own session, its pid in DIR/pids/NAME
spawn() {
  local name=$1; shift
  setsid "$@" </dev/null >>"$D/log/$name.out" 2>&1 &
  echo $! >"$D/pids/$name"
}
# wait_for SECONDS WHAT CMD...: until CMD succeeds
wait_for() {
  local end=$((SECONDS + $1)) what=$2 f dead; shift 2
  until "$@" >/dev/null 2>&1; do
    dead=; for f in "$D"/pids/*; do [ -d "/proc/$(cat "$f")" ] || dead+=" ${f##*/}"; done
    if [ $SECONDS -ge $end ] || [ -n "$dead" ]; then
      [ -n "$dead" ] && echo "up.sh: ended:$dead" >&2
      echo "up.sh: $what did not come up; last lines of the logs:" >&2
      tail -n 15 "$D"/log/* >&2; "$here/down.sh" "$D" || true; exit 1
    fi
    sleep 0.05
  done
}

# --- munge: own key, own socket, nothing under /run or /etc/munge -------------------------------
(umask 077; head -c 128 /dev/urandom >"$D/munge/key")
spawn munged munged --foreground --force --num-threads=2 \
  --key-file="$D/munge/key" --socket="$D/munge/socket" --pid-file="$D/munge/pid" \
  --log-file="$D/log/munged.log" --seed-file="$D/munge/seed"

# --- slurm.conf -----------------------------------------------------------------------------------
acct='AccountingStorageType=accounting_storage/none'
[ -n "$ACCOUNTING" ] && acct="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT - 1))
AccountingStoragePass=$D/munge/socket"
sed -e "s|@DIR@|$D|g" -e "s|@HOST@|$HOST|g" -e "s|@PORT@|$PORT|g" "$here/slurm.conf.in" >"$CONF"
{ echo "$acct"
  for i in $(seq "$N"); do
    echo "NodeName=node$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + i)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN"
    mkdir -p "$D/spool/node$i"
  done
  echo "PartitionName=main  Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP PriorityTier=2 PreemptMode=OFF"
  echo "PartitionName=other Nodes=node$N Default=NO MaxTime=30 DefaultTime=1 State=UP PriorityTier=2 PreemptMode=OFF"
  echo "PartitionName=spare Nodes=node$N Default=NO MaxTime=60 DefaultTime=10 State=UP PriorityTier=1 PreemptMode=CANCEL"
} >>"$CONF"
[ -n "${SLURM_ETC:-}" ] && { mkdir -p /etc/slurm; ln -sfn "$CONF" /etc/slurm/slurm.conf; }
printf '#!/bin/sh\nSLURM_CONF=%q exec /usr/bin/srun "$@"\n' "$CONF" >"$D/bin/srun"; chmod +x "$D/bin/srun"
printf 'export SLURM_CONF=%q PATH=%q:"$PATH"\n' "$CONF" "$D/bin" >"$D/env.sh"
export SLURM_CONF=$CONF
printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$D/etc/cgroup.conf"

wait_for 10 munged test -S "$D/munge/socket"

# --- accounting, only when asked for --------------------------------------------------------------
if [ -n "$ACCOUNTING" ]; then . "$here/accounting.sh"; fi

# --- the daemons ----------------------------------------------------------------------------------
# (-i: there is no state to recover; slurmctld first, or each slurmd waits 1 s before it registers again)
spawn slurmctld slurmctld -D -i -f "$CONF"
wait_for 20 slurmctld listening "$PORT"
for i in $(seq "$N"); do spawn "node$i" slurmd -D -N "node$i" -f "$CONF"; done
all_idle() { [ "$(sinfo -h -N -p main -t idle -o %N 2>/dev/null | sort -u | wc -l)" -eq "$N" ]; }
wait_for 30 "the cluster" all_idle
echo "up.sh: $N nodes idle, conf $CONF"

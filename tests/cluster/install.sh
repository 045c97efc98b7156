#!/usr/bin/env bash
# install.sh: Debian's packages for up.sh. As root; starts no daemon.
set -euo pipefail
pk="munge slurmctld slurmd slurm-client mariadb-server-core slurmdbd slurm-wlm-mysql-plugin"
missing=; for p in $pk; do dpkg -s "$p" 2>/dev/null | grep -q '^Status: install ok installed' || missing+=" $p"; done
[ -z "$missing" ] && exit 0
rc=
if [ ! -e /usr/sbin/policy-rc.d ]; then            # packages must not start their services
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; rc=1
fi
trap '[ -n "$rc" ] && rm -f /usr/sbin/policy-rc.d || true' EXIT
apt-get -q -o DPkg::Lock::Timeout=300 update
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
  -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-unsafe-io $missing

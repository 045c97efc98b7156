# sourced by up.sh when SLURM_ACCOUNTING=1: a private MariaDB (empty data directory, no grant tables, loopback only)
# and slurmdbd, then the cluster and an account for root.
MYPORT=$((PORT - 2))
mkdir -p "$D/mysql"
spawn mariadbd mariadbd --no-defaults --user=root --datadir="$D/mysql" --socket="$D/mysql/sock" \
  --pid-file="$D/mysql/pid" --bind-address=127.0.0.1 --port=$MYPORT --skip-grant-tables --skip-name-resolve \
  --skip-log-bin --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 \
  --innodb-doublewrite=0 --innodb-lock-wait-timeout=900
(umask 077; cat >"$D/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$D/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT - 1))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$MYPORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
LogFile=$D/log/slurmdbd.log
PidFile=$D/state/slurmdbd.pid
CONF
)
wait_for 30 mariadbd listening "$MYPORT"
spawn slurmdbd slurmdbd -D
wait_for 30 slurmdbd sacctmgr -n list cluster
sacctmgr -i -Q add cluster ci >/dev/null
sacctmgr -i -Q add account ci Cluster=ci Description=ci Organization=ci >/dev/null
sacctmgr -i -Q add user root Account=ci DefaultAccount=ci >/dev/null

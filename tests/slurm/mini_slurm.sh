#!/bin/bash
# A Slurm cluster of several nodes on this one machine, as root: mini_slurm.sh start | stop | kill-node N | start-node N
#
# Needs Debian's `slurmd slurmctld slurm-client munge`. Everything lives in $D (which must be set); clients need SLURM_CONF=$D/slurm.conf.
# Each node is a PID namespace of its own, so that killing it kills its jobs as a power cut would.
set -eu
: "${D:?set D to a directory for the cluster}"
N=${N:-3}
CPUS=${CPUS:-1}
export SLURM_CONF=$D/slurm.conf

wait_for() {
    for _ in $(seq 200); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "timeout: $*" >&2
    return 1
}

start_node() {
    setsid unshare --pid --fork --mount-proc --kill-child slurmd -D -f "$SLURM_CONF" -N "node$1" </dev/null >/dev/null 2>&1 &
    echo $! >"$D/unshare$1.pid"
}

case $1 in
start)
    mkdir -p "$D"/munge "$D"/state "$D"/log
    chmod 711 "$D"/munge
    for i in $(seq "$N"); do mkdir -p "$D/spool/node$i"; done
    dd if=/dev/urandom of="$D/munge/key" bs=128 count=1 status=none
    chmod 600 "$D/munge/key"
    munged --key-file="$D/munge/key" --socket="$D/munge/sock" --pid-file="$D/munge/pid" \
        --log-file="$D/munge/log" --seed-file="$D/munge/seed" --force
    cat >"$SLURM_CONF" <<CONF
ClusterName=mini
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge/sock,cred_expire=5
StateSaveLocation=$D/state
SlurmctldPidFile=$D/slurmctld.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdPidFile=$D/%n.pid
SlurmdSpoolDir=$D/spool/%n
SlurmdLogFile=$D/log/%n.log
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
SlurmdTimeout=5
ReturnToService=2
KillWait=2
MessageTimeout=5
JobCompType=jobcomp/filetxt
JobCompLoc=$D/log/jobcomp.txt
NodeName=node[1-$N] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[17001-$((17000 + N))] CPUs=$CPUS RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    slurmctld -f "$SLURM_CONF"
    for i in $(seq "$N"); do start_node "$i"; done
    wait_for scontrol ping
    wait_for sh -c "[ \$(sinfo -h -N -t idle -o %n | wc -l) -eq $N ]"
    sinfo
    ;;
start-node) start_node "$2" ;;
kill-node) kill -9 "$(cat "$D/unshare$2.pid")" ;;
stop)
    # unshare ignores TERM.
    for f in "$D"/unshare*.pid; do kill -9 "$(cat "$f")" 2>/dev/null || true; done
    for f in "$D"/slurmctld.pid "$D"/munge/pid; do kill "$(cat "$f")" 2>/dev/null || true; done
    sleep 0.5
    ;;
*)
    echo "start, stop, kill-node N or start-node N expected, found $1" >&2
    exit 2
    ;;
esac

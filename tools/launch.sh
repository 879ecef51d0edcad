#!/usr/bin/env bash
# Start tools/train.py or tools/test.py on several GPUs. dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh call this
# with mmsegmentation's command lines:
#   launch.sh dist train CONFIG GPUS [arguments]                    NNODES, NODE_RANK, MASTER_ADDR and PORT for several machines
#   launch.sh dist test CONFIG CHECKPOINT GPUS [arguments]
#   launch.sh slurm train PARTITION JOB_NAME CONFIG [arguments]     GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), SRUN_ARGS
#   launch.sh slurm test PARTITION JOB_NAME CONFIG CHECKPOINT [arguments]
set -euo pipefail
LAUNCHER=${1:-} TOOL=${2:-}
case "$LAUNCHER $TOOL" in
    'dist train') NAMES='CONFIG GPUS' ;;
    'dist test') NAMES='CONFIG CHECKPOINT GPUS' ;;
    'slurm train') NAMES='PARTITION JOB_NAME CONFIG' ;;
    'slurm test') NAMES='PARTITION JOB_NAME CONFIG CHECKPOINT' ;;
    *) echo "usage: $0 dist|slurm train|test ..." >&2; exit 2 ;;
esac
shift 2
SCRIPT=tools/${LAUNCHER}_$TOOL.sh
COUNT=$(wc -w <<< "$NAMES")
if [ $# -lt "$COUNT" ]; then
    echo "usage: $SCRIPT $NAMES [arguments of tools/$TOOL.py]" >&2
    exit 2
fi
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"

if [ "$LAUNCHER" = slurm ]; then
    GPUS_PER_NODE=${GPUS_PER_NODE:-8}
    # SRUN_ARGS is split into words on purpose.
    # shellcheck disable=SC2086
    exec srun -p "$1" --job-name="$2" --gres=gpu:"$GPUS_PER_NODE" --ntasks="${GPUS:-8}" --ntasks-per-node="$GPUS_PER_NODE" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        python -u "$ROOT/tools/$TOOL.py" "${@:3:COUNT-2}" --launcher slurm "${@:COUNT+1}"
fi

# torchrun's own error for a port in use is a page long
if [ "${NNODES:-1}" = 1 ] && (exec 3<>"/dev/tcp/127.0.0.1/${PORT:-29500}") 2>/dev/null; then
    echo "error: port ${PORT:-29500} is in use, by another training perhaps: choose another, PORT=29501 $SCRIPT ..." >&2
    exit 1
fi
exec torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="${!COUNT}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$ROOT/tools/$TOOL.py" "${@:1:COUNT-1}" --launcher pytorch "${@:COUNT+1}"

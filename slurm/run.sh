# shellcheck shell=bash
# Sourced by the batch scripts: how a job is run, stopped, and what its exit code leads to.
#
# `home` is the clone. Which partition, account, GPUs: nothing of that is here, sbatch knows it.

say() { echo "slurm: $*" >&2; }

die() {
  echo "error: $*" >&2
  exit 2
}

# The words before `-m jobs`: `python` of a venv or of an Apptainer image; `steps` of srun for Pyxis.
find_python() {
  python=() steps=()
  if [ -n "${CODEX_FORGE_SIF:-}" ]; then
    python=(apptainer exec)
    [ "$(gpus)" -eq 0 ] || python+=(--nv)
    local folder
    while IFS= read -r folder; do python+=(--bind "$folder"); done < <(shared_folders)
    python+=(--pwd "$PWD" "$CODEX_FORGE_SIF" python)
  elif [ -n "${CODEX_FORGE_IMAGE:-}" ]; then
    local mounts
    mounts=$(shared_folders | sed '/:/!s/.*/&:&/' | paste -sd,)
    steps=("--container-image=$CODEX_FORGE_IMAGE" "--container-mounts=$mounts"
      "--container-workdir=$PWD")
    python=(python)
  else
    python=("${CODEX_FORGE_VENV:-$home/.venv}/bin/python")
    [ -x "${python[0]}" ] ||
      die "${python[0]}: no such program; run make setup, or set CODEX_FORGE_VENV, CODEX_FORGE_SIF or CODEX_FORGE_IMAGE"
  fi
}

# What a container sees of the node: where it was submitted, scratch, cache, and what the user names.
shared_folders() {
  printf '%s\n' "$PWD" "${TMPDIR:-}" "${CODEX_FORGE_CACHE:-}" "${CODEX_FORGE_BINDS:-}" |
    tr ',' '\n' | awk 'NF && !seen[$0]++'
}

# Apptainer may be set up to keep the environment out, and a host's Python paths never belong in.
# Not by --env: command lines are everybody's to read.
tell_container() {
  unset PYTHONPATH PYTHONHOME LD_LIBRARY_PATH LD_PRELOAD
  local wanted='^(AWS|CODEX_FORGE|CUDA|GLOO|HF|MLFLOW|NCCL|OMP|PET|PYTHON|SLURM|TORCH|WANDB)_?'
  local name
  while IFS= read -r name; do
    export "APPTAINERENV_$name=${!name}"
  done < <(compgen -e | grep -E "$wanted|^(TMPDIR|TOKENIZERS_PARALLELISM|.*_(proxy|PROXY))$")
}

gpus() { echo "${SLURM_GPUS_ON_NODE:-0}"; }

# Compute nodes have no internet; the cores of the job are shared by its processes.
set_defaults() {
  local ranks=$1 cores=${SLURM_CPUS_PER_TASK:-1}
  export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} TOKENIZERS_PARALLELISM=${TOKENIZERS_PARALLELISM:-false}
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > ranks ? cores / ranks : 1))}
  export PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1 # what is installed, not what lies about
  export SRUN_CPUS_PER_TASK=$cores
}

# MODE CONFIG ...: on one node; what trains has a process for each GPU.
run_mode() {
  local ranks=1 words=(-m jobs "$@")
  case "$1 $*" in *--collect*) ;; train* | sweep*) [ "$(gpus)" -le 1 ] || ranks=$(gpus) ;; esac
  [ "$ranks" -eq 1 ] ||
    words=(-m jobs torchrun --standalone --nproc-per-node "$ranks" -m "jobs.$1" "${@:2}")
  set_defaults "$ranks"
  find_python
  if [ "${#steps[@]}" -gt 0 ]; then
    python=(srun --nodes=1 --ntasks=1 "${steps[@]}" "${python[@]}")
  fi
  run_on_node "${python[@]}" "${words[@]}"
}

run_on_node() {
  [ -z "${CODEX_FORGE_SIF:-}" ] || tell_container
  run_forwarding "$@"
}

# Run a command; it gets USR1 for every USR1 or TERM: srun would kill its tasks for a TERM.
# Sets `code`, and `signalled` when there was one.
forwards=1
run_forwarding() {
  local child=''
  signalled='' code=0
  trap 'signalled=1; if [ "$child" ] && [ "$forwards" ]; then kill -s USR1 "$child" || :; fi' USR1 TERM
  "$@" &
  child=$!
  [ -z "$signalled" ] || kill -s USR1 "$child" || : # it came before there was a child
  while kill -0 "$child" 2>/dev/null; do wait "$child" || :; done # a signal ends `wait`, not the child
  wait "$child" || code=$?
  child=''
}

# What a job's exit code leads to. 137: killed outright; 138, 143: stopped before it could listen.
# After a signal all three are what came of it.
treatment() {
  case $1 in
    0) echo "done" ;;
    2 | 3) echo never ;;
    75) echo again ;;
    137 | 138 | 143) if [ "$signalled" ]; then echo again; else echo killed; fi ;;
    *) echo counted ;;
  esac
}

# End the job as its exit code asks for. Arguments: those of this batch script, its name first.
finish() {
  case $(treatment "$code") in
    again) come_back "${CODEX_FORGE_MAX_RESTARTS:-20}" "$@" ;;
    killed) come_back 3 "$@" ;; # perhaps for its memory, and then it would be again
  esac
  exit "$code"
}

#!/usr/bin/env bash
# The whole chain, each step a job that starts when those before it have ended with 0:
#
#   slurm/pipeline.sh configs/mine.yaml [key=value ...]
#   GPUS=2 SHARDS=8 SWEEP=1 slurm/pipeline.sh configs/mine.yaml
#
# GPUS=n    GPUs of a job that trains; embed gets one (0)
# NODES=n   nodes of the training (1)
# SHARDS=n  embed as an array of n tasks (1)
# SWEEP=1   after the chain the trials of the config's sweep, ARRAY_LIMIT=n at a time, and the
#           leaderboard; TRIALS=n where the number cannot be asked for here (image by Pyxis)
# OPTIONS, OPTIONS_TRAIN, ...   options of sbatch, for all steps or those of one mode
# DRY_RUN=1 print the commands, submit nothing
#
# Prints a line for each job: its number, and its step.
set -Eeuo pipefail
shopt -s inherit_errexit

home=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
# shellcheck source=slurm/run.sh
. "$home/slurm/run.sh"
# shellcheck source=slurm/submit.sh
. "$home/slurm/submit.sh"
[ $# -ge 1 ] || die "usage: slurm/pipeline.sh CONFIG [key=value ...]"
case $1 in -*) die "usage: slurm/pipeline.sh CONFIG [key=value ...]" ;; esac
[ -r "$1" ] || die "$1: no such config"

given=("$@")
unset INDEXES
declare -A numbers
trap 'undo' ERR

# Half a chain helps nobody.
undo() {
  [ -n "${DRY_RUN:-}" ] || [ "${#numbers[@]}" -eq 0 ] || {
    say "a step could not be submitted; cancelling ${!numbers[*]}"
    tr ':' '\n' <<<"$(printf '%s\n' "${numbers[@]}")" | xargs scancel || :
  }
  exit 2
}

# NAME "STEPS BEFORE" MODE [key=value ...]
step() {
  local name=$1 before mode=$3 options waits=() rest=("${@:4}")
  local ids=''
  for before in $2; do ids+=":${numbers[$before]}"; done
  [ -z "$ids" ] || waits=("--dependency=${relation:-afterok}$ids")
  submit_step "$name" "$mode" "${given[0]}" ${rest[@]+"${rest[@]}"} "${given[@]:1}"
}

submit_step() {
  local name=$1 mode=$2 script=job.sbatch ids
  shift 2
  if [ "$mode" = embed ] && [ "${SHARDS:-1}" -gt 1 ]; then set -- "$@" --shards "$SHARDS"; fi
  if shards_of "$@" >/dev/null; then
    ids=$(submit_array "$mode" "$@")
  else
    options_for "$name" "$mode"
    if [ "$mode" = train ] && [ "${NODES:-1}" -gt 1 ]; then
      script=multinode.sbatch options+=("--nodes=$NODES")
    fi
    ids=$(submit "${options[@]}" ${waits[@]+"${waits[@]}"} "$home/slurm/$script" "$mode" "$@")
  fi
  numbers[$name]=$(paste -sd: <<<"$ids")
  [ -n "${DRY_RUN:-}" ] || printf '%s  %s\n' "${numbers[$name]//:/ }" "$name"
}

# The trials' number is the config's to say.
trials() {
  if [ -n "${TRIALS:-}" ]; then echo "$TRIALS" && return; fi
  find_python
  "${python[@]}" -m jobs sweep "${given[@]}" --size
}

step pairs "" pairs
step audit pairs audit
step embed-base pairs embed embed.model=base
step evaluate-base embed-base evaluate embed.model=base
step evaluate-bm25 pairs evaluate evaluate.retriever=bm25
step train audit train
step embed train embed
step evaluate embed evaluate
step evaluate-hybrid embed evaluate evaluate.retriever=hybrid
step compare "evaluate-base evaluate-bm25 evaluate evaluate-hybrid" compare

if [ -n "${SWEEP:-}" ]; then
  number=$(trials)
  step sweep compare sweep --shards "$number"
  relation=afterany step sweep-collect sweep sweep --collect # says what is missing, if anything is
fi

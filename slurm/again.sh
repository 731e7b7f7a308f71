# shellcheck shell=bash
# Sourced by the batch scripts: how a job that may be started again gets back into the queue.
# They set `home` (the clone) and `code` (the exit code).
# shellcheck disable=SC2154
#
# The same job, when Slurm takes it back: its number, resources, log and dependents stay. Otherwise
# a new job like it, and what waits for this one waits for that one.

# This job as scontrol knows it. An array's own number would mean all of its tasks.
me=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
me=${me:-${SLURM_JOB_ID:-}}

come_back() {
  local limit=$1
  shift
  local restarts=$((${CODEX_FORGE_RESTARTS:-0} + ${SLURM_RESTART_COUNT:-0}))
  if [ "$restarts" -ge "$limit" ]; then
    say "exit code $code; started again $restarts times already, which is enough; see the log above"
    return
  fi
  facts=$(timeout 60 scontrol show job "$me") || { say "Slurm does not answer"; return; }
  wanted_again || return 0
  if [ "$(fact Requeue)" = 0 ]; then timeout 60 scontrol update "JobId=$me" Requeue=1 || :; fi
  say "exit code $code; requeued, restart $((restarts + 1)) of at most $limit"
  if timeout 60 scontrol requeue "$me"; then exit "$code"; fi
  say "it is not requeued; submitting it anew"
  submit_anew $((restarts + 1)) "$@"
}

# A job that somebody cancelled stays away, and so does one whose successor runs already: a node
# that was cut off comes back late.
wanted_again() {
  if [ "$(fact Restarts)" != "${SLURM_RESTART_COUNT:-0}" ]; then
    say "exit code $code; Slurm has started this job again itself"
    return 1
  fi
  case $(fact JobState)/$(fact PreemptTime) in
    RUNNING/*) ;;
    */None | */)
      say "exit code $code; this job was cancelled, or is over its time: it does not come back"
      return 1
      ;;
  esac
}

# A field of `scontrol show job`; of a path, which may hold spaces, the rest of its line.
fact() { sed -nE "s|^(.* )?$1=([^ ]*).*|\2|p" <<<"$facts" | head -n 1; }
path_fact() { sed -nE "s/^ *$1=(.*)/\1/p" <<<"$facts" | head -n 1; }

submit_anew() {
  local restarts=$1 script=$2 options=() new
  shift 2
  take --partition Partition
  take --account Account
  take --qos QOS
  take --time TimeLimit
  take --nodes NumNodes
  take --ntasks NumTasks
  take --cpus-per-task CPUs/Task
  take --mem MinMemoryNode
  take --mem-per-cpu MinMemoryCPU
  take --gres TresPerNode
  take --gpus TresPerJob
  take --constraint Features
  take --reservation Reservation
  options+=("--job-name=$SLURM_JOB_NAME" "--output=$(path_fact StdOut)")
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || options+=("--array=$SLURM_ARRAY_TASK_ID")
  [ "$signalled" ] || options+=(--begin=now+2minutes) # what it lacks may be there by then
  new=$(
    # shellcheck disable=SC2046 # names of variables have no spaces
    unset $(compgen -e | grep -E '^SLURM_' | grep -vE '^SLURM_(CONF|CLUSTERS)$')
    export CODEX_FORGE_HOME=$home CODEX_FORGE_RESTARTS=$restarts
    sbatch --parsable "${options[@]}" "$home/slurm/$script" "$@"
  ) || { say "it could not be submitted: start it again by hand"; return; }
  say "it goes on as job $new"
  wait_for "${new%%;*}"
}

# Take over an option of this job, unless it has none.
take() {
  local value
  value=$(fact "$2")
  case $value in '' | '(null)' | N/A | 0) return ;; esac
  case $1 in
    --gres | --gpus) value=$(sed -E 's#gres[:/]##g; s#gpu=#gpu:#g' <<<"$value") ;;
  esac
  [ "$1" != --gpus ] || value=${value#gpu:}
  options+=("$1=$value")
}

# Let what waits for this job wait for the new one; of an array, for that too.
wait_for() {
  local new=$1 old=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} job waits
  squeue --noheader --user="$(id -u)" --states=PENDING --format='%A %E' | sort -u |
    while read -r job waits; do
      waits=$(sed -E 's/\([^)]*\)//g; s/_\*//g' <<<"$waits")
      [[ ",$waits," =~ :${old}[,:?] ]] || continue
      if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        waits+=",afterok:$new"
      else
        waits=$(sed -E "s/:$old([,:?]|\$)/:$new\1/g" <<<"$waits")
      fi
      scontrol update "JobId=$job" "Dependency=$waits" && say "job $job waits for it"
    done
}

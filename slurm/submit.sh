# shellcheck shell=bash
# Sourced by what submits: the resources of a mode, one job, or an array in as many parts as the
# site needs. `home` is the clone.
#
# GPUS: how many a job that trains gets (0). OPTIONS, and OPTIONS_TRAIN, OPTIONS_EMBED, ...: further
# options of sbatch, for all modes or for one; they win. DRY_RUN=1: print what would be submitted.
# shellcheck disable=SC2154

# Cores, GiB, whether it uses GPUs, hours: the table of codex_forge/launching.py.
resources() {
  case $1 in
    pairs) echo 2 8 0 12 ;;
    audit | compare) echo 2 4 0 2 ;;
    train | sweep) echo 8 32 1 24 ;;
    embed) echo 4 16 1 12 ;;
    evaluate) echo 4 16 0 4 ;;
    *) die "$1: no such mode" ;;
  esac
}

# NAME MODE: sets `options`. What the user has set as SBATCH_* stays.
options_for() {
  local cores gib gpu hours own table
  table=$(resources "$2")
  read -r cores gib gpu hours <<<"$table"
  options=("--job-name=$1" "--cpus-per-task=$cores" --kill-on-invalid-dep=yes)
  [ -n "${SBATCH_MEM_PER_NODE:-}${SBATCH_MEM_PER_CPU:-}${SBATCH_MEM_PER_GPU:-}" ] ||
    options+=("--mem=${gib}G")
  [ -n "${SBATCH_TIMELIMIT:-}" ] || options+=("--time=$hours:00:00")
  if [ "$gpu" -gt 0 ] && [ "${GPUS:-0}" -gt 0 ]; then
    [ "$2" = embed ] && options+=(--gres=gpu:1) || options+=("--gres=gpu:$GPUS")
  fi
  own=OPTIONS_${2^^}
  # shellcheck disable=SC2206 # words, by design
  options+=(${OPTIONS:-} ${!own:-})
}

# Options, script and arguments of sbatch -> the job's number; of a dry run, the step's `name`.
submit() {
  local number
  if [ -n "${DRY_RUN:-}" ]; then
    printf '%q ' "${CODEX_FORGE_INDEX_OFFSET:+CODEX_FORGE_INDEX_OFFSET=$CODEX_FORGE_INDEX_OFFSET}" \
      sbatch "$@" | sed "s/^'' //; s/ $//" >&2
    echo >&2
    echo "$name"
    return
  fi
  number=$(CODEX_FORGE_HOME=$home sbatch --parsable "$@") || return
  echo "${number%%;*}"
}

# MODE CONFIG ... --shards N -> the number of each part. The caller has set `name`, and in `waits`
# a --dependency, or nothing.
submit_array() {
  local options count all offset indexes number
  [ "${INDEXES-some}" ] || { say "INDEXES is empty: nothing is missing"; return; }
  count=$(shards_of "$@") || die "usage: slurm/array.sbatch MODE CONFIG [key=value ...] --shards N"
  all=$(parts "$count" "$(most)")
  options_for "$name" "$1"
  while read -r offset indexes; do
    number=$(CODEX_FORGE_INDEX_OFFSET=$offset submit "${options[@]}" ${waits[@]+"${waits[@]}"} \
      "--array=$indexes${ARRAY_LIMIT:+%$ARRAY_LIMIT}" "$home/slurm/array.sbatch" "$@") || return
    echo "$number"
    say "array $number: tasks $indexes, which are $offset and on of $count"
    [ -z "${ARRAY_LIMIT:-}" ] || waits=("--dependency=afterany:$number") # the limit holds for all
  done <<<"$all"
}

shards_of() {
  while [ $# -gt 0 ]; do
    case $1 in
      --shards) shift && echo "${1:?}" && return ;;
      --shards=*) echo "${1#*=}" && return ;;
    esac
    shift
  done
  return 1
}

# One more than the highest index that this site allows.
most() {
  local told
  told=$(scontrol show config 2>/dev/null | sed -nE 's/^MaxArraySize *= *([0-9]+).*/\1/p') || :
  echo "${told:-1001}"
}

# COUNT MOST: a line for each part: what is added to its indexes, and these.
parts() {
  [[ $1 =~ ^[0-9]+$ ]] && [ "$1" -gt 0 ] || die "--shards $1: not a number above 0"
  tr ',' '\n' <<<"${INDEXES:-0-$(($1 - 1))}" | awk -F- -v count="$1" -v most="$2" '
    !/^[0-9]+(-[0-9]+)?$/ || $NF >= count {
      print "error: INDEXES: " $0 ": not an index below " count > "/dev/stderr"; bad = 1; exit 2
    }
    { for (first = $1; first <= $NF; first = last + 1) {
        part = int(first / most)
        last = (part + 1) * most - 1 < $NF ? (part + 1) * most - 1 : $NF
        from = first - part * most; to = last - part * most
        list[part] = list[part] (list[part] == "" ? "" : ",") from (to > from ? "-" to : "")
        if (part > top) top = part
    } }
    END { if (!bad) for (p = 0; p <= top; p++) if (p in list) print p * most, list[p] }'
}

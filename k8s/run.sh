#!/usr/bin/env bash
# The chain, or a sweep, on the cluster that kubectl points at: one Job after another, each awaited.
#
#   k8s/run.sh pipeline       the chain, in order              (make k8s-pipeline)
#   k8s/run.sh sweep          the trials, then the leaderboard (make k8s-sweep)
#   k8s/run.sh show pipeline|sweep|sweep-collect    the manifests, applied to nothing
#
# OVERLAY (minimal) names a folder of k8s/overlays. CONFIG is put in place of k8s/common/run.yaml,
# IMAGE in place of codex-forge:latest; SHARDS says in how many parts `embed` works, PARALLEL how
# many trials run at a time (4). ARGS are more words for `python -m jobs.sweep`: overrides and --force
# for trials and leaderboard, --accept-missing for the leaderboard alone. PYTHON (python3) runs
# codex-forge here, to count the trials.
#
# A Job that has ended is deleted first; one that runs is left as it is, and awaited; when it runs with
# another config, image or number, this ends with 2. Ends with 0, or with the exit code
# of the job that failed, whose log it prints: 2 and 3 as docs/exit-codes.md says, 75 try again.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STEPS=(pairs audit embed-base evaluate-base evaluate-bm25 train embed evaluate evaluate-hybrid compare)
TRIAL_SECONDS=86400
POLL=${POLL:-5}
WORK=""

fail() { # CODE WHAT
  echo "error: $2" >&2
  exit "$1"
}

# --- the manifests ---------------------------------------------------------------------------------

check() { # PART: what can be said before anything is made
  local file="$HERE/overlays/${OVERLAY:=minimal}/kustomization.yaml"
  [ -f "$file" ] || fail 2 "$file: there is no such overlay; set OVERLAY to a folder of k8s/overlays"
  [ -z "${CONFIG:-}" ] || [ -f "$CONFIG" ] || fail 2 "$CONFIG: there is no such file; set CONFIG"
  if [ "$1" = pipeline ]; then
    [ -z "$(words "$1")" ] || fail 2 "ARGS goes with sweep; what the chain is to do stands in CONFIG"
  elif grep -qE '^[^#]*/jobset([^a-z0-9-]|$)' "$file"; then
    fail 2 "k8s/overlays/$OVERLAY: jobset makes a JobSet of the step train, and a sweep has no such step: a trial trains in one pod; set OVERLAY to one without jobset"
  fi
}

copy() { # PART: a copy of k8s/ with what the caller has chosen
  COPY="$WORK/$1/k8s"
  mkdir "$WORK/$1"
  cp -R "$HERE" "$COPY"
  if [ -n "${CONFIG:-}" ]; then
    CONFIG=$(realpath "$CONFIG")
    cat "$CONFIG" > "$COPY/common/run.yaml"
  fi
  [ -z "${SHARDS:-}" ] || count "$SHARDS" "$SHARDS" > "$COPY/base/shards.yaml"
  [ "$1" != sweep ] || [ -z "${CONFIG:-}${PARALLEL:-}$(words sweep)" ] || trials > "$COPY/sweep/trials.yaml"
  [ "$1" = pipeline ] || instead "$1" > "$COPY/base/kustomization.yaml"
}

instead() { # PART: it takes the place of the chain, so an overlay does to it what it does to the chain
  local word
  printf 'resources: ["../%s"]\n' "$1"
  [ -n "$(words "$1")" ] || return 0
  printf 'patches:\n- target: {kind: Job}\n  patch: |\n'
  while read -r word; do
    printf '    - {op: add, path: /spec/template/spec/containers/0/args/-, value: "%s"}\n' "$word"
  done < <(words "$1" | sed 's/[\\"]/\\&/g')
}

words() { # PART: the words of ARGS that it takes, a line each
  tr -s '[:space:]' '\n' <<< "${ARGS:-}" \
    | awk -v part="$1" '$0 != "" && !(part == "sweep" && $0 == "--accept-missing")'
}

count() { # NUMBER AT_ONCE: the patch that gives an Indexed Job its number
  [[ $1 =~ ^[1-9][0-9]*$ && $2 =~ ^[1-9][0-9]*$ ]] || fail 2 "SHARDS and PARALLEL are numbers above 0, not '$1' and '$2'"
  echo "- {op: add, path: /spec/completions, value: $1}"
  echo "- {op: add, path: /spec/parallelism, value: $2}"
  echo "- {op: add, path: /spec/template/spec/containers/0/args/-, value: --shards}"
  echo "- {op: add, path: /spec/template/spec/containers/0/args/-, value: \"$1\"}"
}

trials() { # the same for the sweep of the config, with the time that its turns take
  local number turns word at_once=${PARALLEL:-4}
  set -- "${CONFIG:-$HERE/common/run.yaml}" --size
  while read -r word; do
    [[ $word == -* ]] || set -- "$@" "$word"
  done < <(words sweep)
  number=$(cd "$HERE/.." && "${PYTHON:-python3}" -m jobs.sweep "$@") || exit
  count "$number" "$at_once"
  turns=$(((number + at_once - 1) / at_once))
  echo "- {op: add, path: /spec/maxFailedIndexes, value: $((number / 2))}"
  echo "- {op: add, path: /spec/activeDeadlineSeconds, value: $((turns * TRIAL_SECONDS))}"
}

render() { # PART: the manifests
  check "$1"
  copy "$1"
  local top="$COPY/overlays/$OVERLAY"
  if [ -n "${IMAGE:-}" ]; then
    top="$COPY/with-image"
    mkdir "$top"
    with_image > "$top/kustomization.yaml"
  fi
  kubectl kustomize "$top" > "$WORK/$1.yaml" || fail 2 "k8s/overlays/$OVERLAY cannot be rendered, as kubectl says above"
  [ -z "${IMAGE:-}" ] || check_image "$WORK/$1.yaml"
}

with_image() { # the overlay with IMAGE: name, name:tag or name@digest; what it becomes in WANTED
  local name=$IMAGE tag="" digest=""
  [[ $name != *@* ]] || { digest=${name#*@} && name=${name%%@*}; }
  [[ ${name##*/} != *:* ]] || { tag=${name##*:} && name=${name%:*}; }
  printf 'resources: ["../overlays/%s"]\nimages:\n- name: codex-forge\n  newName: "%s"\n' "$OVERLAY" "$name"
  if [ -n "$digest" ]; then echo "  digest: \"$digest\""; else echo "  newTag: \"${tag:-latest}\""; fi
  if [ -n "$digest" ]; then WANTED="$name@$digest"; else WANTED="$name:${tag:-latest}"; fi
}

check_image() { # FILE: each Job must have it; an overlay that names its image hides codex-forge
  local other
  other=$(awk -v wanted="$WANTED" '
    function flush() { if (job && !found) print image; job = found = 0; image = "" }
    /^---$/ { flush() }
    /^kind: (Job|JobSet)$/ { job = 1 }
    NF > 1 && $(NF - 1) == "image:" { image = $NF; gsub(/"/, "", image); found = found || image == wanted }
    END { flush() }' "$1")
  [ -z "$other" ] || fail 2 "IMAGE=$IMAGE has no effect: k8s/overlays/$OVERLAY names its image itself ($(head -n 1 <<< "$other")); leave IMAGE out, or take \`images\` out of the overlay"
}

split() { # kustomize's output on stdin: one file for each step, and rest.yaml, each object once
  awk -v folder="$WORK" '
    function flush() {
      if (text != "" && !seen[text]++)
        printf "%s---\n", text >> (folder "/" (job && step != "" ? "step-" step : "rest") ".yaml")
      text = step = section = ""
      job = 0
    }
    /^---$/ { flush(); next }
    /^[a-z]/ { section = $1 }
    /^kind: (Job|JobSet)$/ { job = 1 }
    section == "metadata:" && /^    codex-forge\/step: / { step = $2 }
    { text = text $0 "\n" }
    END { flush() }'
}

# --- the cluster -----------------------------------------------------------------------------------

ask() { # FILE: its name, its pods, and the conditions that hold; nothing when it is not there
  kubectl get -f "$1" --ignore-not-found -o jsonpath='{.metadata.namespace}{" "}{.kind}{" "}{.metadata.name}{"\n"}{"active "}{.status.active}{", succeeded "}{.status.succeeded}{", failed "}{.status.failed}{"\n"}{range .status.conditions[?(@.status=="True")]}{.type}{" "}{.reason}{": "}{.message}{"\n"}{end}'
}

ended() { # WHAT ASK SAID: the condition that says how it ended, if it has
  grep -E '^(Complete|Completed|Failed) ' <<< "$1"
}

start() { # STEP: make its Job, anew when it has ended; one that has not is left as it is
  local file="$WORK/step-$1.yaml" told
  [ -f "$file" ] || fail 2 "k8s/overlays/$OVERLAY has no step $1"
  told=$(ask "$file") || fail 75 "$1: the cluster cannot be asked, as kubectl says above"
  if [ -n "$told" ] && ! ended "$told" > /dev/null; then
    # An apply would set anew what a queue or a person has set since: suspend, parallelism.
    kubectl apply --dry-run=server -f "$file" > /dev/null \
      || fail 2 "$1 is there with other settings; await its end, or: kubectl delete -n $(namespace "$file") $(kind "$file") $1"
    return
  fi
  if [ -n "$told" ]; then
    kubectl delete -f "$file" --ignore-not-found --cascade=foreground > /dev/null \
      || fail 75 "$1: its last run cannot be deleted, as kubectl says above"
  fi
  kubectl apply -f "$file" > /dev/null || fail 2 "$1 cannot be started, as kubectl says above"
}

namespace() { # FILE
  awk '/^  namespace: / { print $2; exit }' "$1"
}

kind() { # FILE
  awk '/^kind: / { print tolower($2); exit }' "$1"
}

await() { # STEP: until it has ended; prints what changes, and leaves its last words in TOLD
  local file="$WORK/step-$1.yaml" before="" misses=0 now
  while :; do
    if TOLD=$(ask "$file"); then
      misses=0
      [ -n "$TOLD" ] || fail 75 "$1: somebody has deleted it"
      now=$(sed -n 2p <<< "$TOLD" | sed -E 's/(active|succeeded|failed) (,|$)/\1 0\2/g')
      [ "$now" = "$before" ] || echo "$(date +%H:%M:%S) $1: $now"
      before=$now
      ! ended "$TOLD" > /dev/null || return 0
    elif ((++misses > 60)); then
      fail 75 "the cluster does not answer; the Jobs go on without it"
    fi
    sleep "$POLL"
  done
}

pods() { # its pods, as `selector NAMESPACE`
  local where kind name
  read -r where kind name < <(head -n 1 <<< "$TOLD")
  case $kind in
    JobSet) echo "jobset.sigs.k8s.io/jobset-name=$name $where" ;;
    *) echo "batch.kubernetes.io/job-name=$name $where" ;;
  esac
}

ends() { # the pods that failed: name, exit code, reason
  local selector where
  read -r selector where < <(pods)
  kubectl get pods -n "$where" -l "$selector" -o jsonpath='{range .items[*]}{.metadata.name}{" "}{.status.containerStatuses[?(@.name=="codex-forge")].state.terminated.exitCode}{" "}{.status.containerStatuses[?(@.name=="codex-forge")].state.terminated.reason}{"\n"}{end}' \
    | awk '$2 > 0'
}

explain() { # STEP: why it failed, with the logs of up to three pods; the exit code in CODE
  local why found name code reason selector where
  why=$(ended "$TOLD")
  found=$(ends) || found=""
  CODE=$(code_of "$why" "$found")
  read -r selector where < <(pods)
  echo "--- $1: $why" >&2
  while read -r name code reason; do
    [ -n "$name" ] || continue
    echo "--- pod $name ended with $code ($reason)" >&2
    kubectl logs -n "$where" "$name" -c codex-forge --tail=40 >&2 || true
  done < <(sort -k2n <<< "$found" | head -n 3)
  echo "error: $1 failed; exit code $CODE" >&2
}

code_of() { # CONDITION PODS: what decides comes first: 2 or 3, then any other, then no time left
  local codes
  codes=$({ grep -oE 'exit code [0-9]+' <<< "$1" || true; awk '{ print "exit code " $2 }' <<< "$2"; } | awk '{ print $3 }')
  if grep -qx 2 <<< "$codes"; then echo 2; return; fi
  if grep -qx 3 <<< "$codes"; then echo 3; return; fi
  case $1 in *DeadlineExceeded*) echo 75 ;; *) echo 1 ;; esac
}

last_words() { # the end of a log, which says the verdict
  local selector where
  read -r selector where < <(pods)
  kubectl logs -n "$where" -l "$selector" -c codex-forge --tail=30 || true
}

# --- the commands ----------------------------------------------------------------------------------

begin() { # PARTS: render, and apply what is no Job
  local part
  for part in "$@"; do
    render "$part"
    { cat "$WORK/$part.yaml" && echo ---; } >> "$WORK/all.yaml"
  done
  split < "$WORK/all.yaml"
  kubectl get --raw /version > /dev/null || fail 75 "the cluster does not answer"
  kubectl apply -f "$WORK/rest.yaml" || fail 2 "what the Jobs need cannot be applied, as kubectl says above"
}

run_step() { # STEP: returns the exit code of its job
  CODE=0
  start "$1"
  await "$1"
  [[ $(ended "$TOLD") == Complete* ]] || explain "$1"
  return "$CODE"
}

pipeline() {
  local step
  begin pipeline
  for step in "${STEPS[@]}"; do
    run_step "$step" || exit "$?"
  done
  last_words
}

sweep() { # what failed is missing in the leaderboard, which is made all the same
  local trials=0 board=0
  begin sweep sweep-collect
  run_step sweep || trials=$?
  run_step sweep-collect || board=$?
  [ "$board" != 0 ] || last_words
  [ "$trials" = 0 ] || exit "$trials"
  exit "$board"
}

leave() {
  trap - INT TERM
  echo "the Jobs go on in the cluster; start this again to await them" >&2
  exit "$1"
}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
trap 'leave 130' INT
trap 'leave 75' TERM
case "${1:-} ${2:-}" in
  "pipeline ") pipeline ;;
  "sweep ") sweep ;;
  "show pipeline" | "show sweep" | "show sweep-collect") render "$2" && cat "$WORK/$2.yaml" ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

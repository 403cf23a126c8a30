#!/usr/bin/env bash
# What does a flood of half-done TLS handshakes do to connections that are established? Latencies of requests at a fifth of what the
# server answers in a closed loop, quiet and beside 2,000 clients of which another says ClientHello and no more every millisecond. The
# server has core 0, both generators core 1, the flood's what the other leaves of it. What they still are in each other's way shows
# `elsewhere`, the same flood at another server that has only what is left of core 0. Of upring's own servers only: hosted-tls and native-tls.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
begin flood 7 2 "$@"
[ "${#running[@]}${#more[@]}$profiles" = 00 ] || refuse 'this script starts its servers, and has no profiles'
connections=2000 flood_rate=1000 honest='http --tls --connections 64'
flood="storm --kind half-handshakes --tls --connections $connections --rate $flood_rate"
IFS=, read -ra names <<<"${targets:-hosted-tls,native-tls}"
for name in "${names[@]}"; do
  is_in "$name" 'hosted-tls native-tls' || refuse "$name is no server of this script"
done
build
cd "$built"
pids=() folder=$(mktemp -d)
stop() {
  kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -r "$folder"
}
trap stop EXIT
# How long the flood rages before anybody looks: by then it is as large as it gets.
before=2.2
# Of what a server answers in a closed loop, where many requests come together. Each by itself is more work, for the generator, too.
share=0.2

# load ARGUMENT...: the generator's report.
# shellcheck disable=SC2086 # the words of a load are arguments
load() { ./upring-load $1 --target "127.0.0.1:$2" --core 1 --json "${@:3}"; }

# The same, in what time core 1 has to spare: the honest clients are not to wait for the flood's.
# shellcheck disable=SC2086
load_aside() { chrt --idle 0 ./upring-load $1 --target "127.0.0.1:$2" --core 1 --json "${@:3}"; }

# field NAME: of a report.
field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

# turn NAME KIND PORT FLOODED-PORT: a round's figures go to a file.
turn() {
  local report flooded='' begun=0
  if [ -n "$4" ]; then
    load_aside "$flood" "$4" --seconds "$(awk "BEGIN { print $before + $seconds + 0.5 }")" >"$folder/flood" &
    flooded=$!
    sleep "$before"
  fi
  report=$(load "$honest" "$3" --rate "${rate[$1]}" --seconds "$seconds")
  if [ -n "$flooded" ]; then
    wait "$flooded" || { echo "$1, $2: $(cat "$folder/flood")" >&2 && exit 1; }
    begun=$(sed 's/.*"half-handshakes":{\([^}]*\)}.*/\1/' "$folder/flood" | grep -o '"begun":[0-9]*' | grep -o '[0-9]*')
  fi
  echo "$(field p50_us <<<"$report") $(field p99_us <<<"$report") $(field rate <<<"$report") $begun" >>"$folder/$1.$2"
}

# median FILE COLUMN
median() { cut -d' ' -f"$2" "$1" | sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

declare -A rate=() ports=()
serve hosted-tls
pids+=("$server") elsewhere=$port
chrt --all-tasks --idle --pid 0 "$server"
for name in "${names[@]}"; do
  serve "$name"
  alone
  pids+=("$server") ports[$name]=$port
  load "$honest" "$port" --seconds 0.3 >/dev/null
  rate[$name]=$(load "$honest" "$port" --seconds "$seconds" | field rate | awk -v share=$share '{ printf "%.0f", $1 * share }')
done
for round in $(seq "$rounds"); do
  for name in "${names[@]}"; do
    kinds=(quiet flooded elsewhere quiet flooded)
    for kind in "${kinds[@]:$((round % 3)):3}"; do
      case $kind in
        quiet) turn "$name" quiet "${ports[$name]}" '' ;;
        flooded) turn "$name" flooded "${ports[$name]}" "${ports[$name]}" ;;
        elsewhere) turn "$name" elsewhere "${ports[$name]}" "$elsewhere" ;;
      esac
    done
  done
done

rows=()
printf '%10s  %9s  %8s  %8s  %10s  %8s  %12s  %8s\n' target kind rate p50_us p99_us to_quiet to_elsewhere begun
for name in "${names[@]}"; do
  for kind in quiet elsewhere flooded; do
    read -r p50 p99 answered begun quiet busy < <(
      for column in 1 2 3 4; do median "$folder/$name.$kind" "$column"; done | tr '\n' ' '
      { median "$folder/$name.quiet" 2 && median "$folder/$name.elsewhere" 2; } | tr '\n' ' ' && echo
    )
    read -r to_quiet to_elsewhere < <(awk "BEGIN { printf \"%.2f %.2f\n\", $p99 / $quiet, $p99 / $busy }")
    figures=("$name" "$kind" "$answered" "$p50" "$p99" "$to_quiet" "$to_elsewhere" "$begun")
    printf '%10s  %9s  %8.0f  %8.1f  %10.1f  %8s  %12s  %8s\n' "${figures[@]}"
    # In their order and form in a record: by name, and no figure with zeros behind it.
    rows+=("$(printf '{"begun": %g, "kind": "%s", "p50_us": %g, "p99_us": %g, "rate": %.0f, "target": "%s", "to_elsewhere": %g, "to_quiet": %g}' \
      "$begun" "$kind" "$p50" "$p99" "$answered" "$name" "$to_elsewhere" "$to_quiet")")
  done
done
for name in "${names[@]}"; do
  # A request takes some tens of microseconds, and at this rate it hardly ever waits for another.
  awk "BEGIN { exit !($(median "$folder/$name.quiet" 2) > 1000) }" &&
    echo "$name: p99 is above a millisecond without a flood: the machine is not quiet, and these are no figures" >&2
done
if [ "$record" = none ]; then exit; fi
# As `measure` writes them.
{
  printf '{\n  "date": "%s",\n  "topic": "flood",\n  "notes": [],\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  printf '  "machine": "%s, %s cores, %s memory",\n' "$(sed -n 's/^model name[[:blank:]]*: //p' /proc/cpuinfo | head -n 1)" \
    "$(grep -c ^processor /proc/cpuinfo)" "$(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
  printf '  "kernel": "%s",\n  "rustc": "%s",\n' "$(uname -r)" "$(rustc --version)"
  printf '  "commit": "%s",\n  "command": ["loadtest/flood.sh"],\n' "$(git describe --always --dirty)"
  printf '  "profiles": {"honest": "%s", "flood": "%s", "rounds": "%s of %s s"},\n' "$honest" "$flood" "$rounds" "$seconds"
  printf '  "failures": [],\n  "table": [\n'
  printf '%s\n' "${rows[@]}" | sed 's/^/    /; $!s/$/,/'
  printf '  ]\n}\n'
} >"$record"
echo "record: $(realpath "$record")" >&2

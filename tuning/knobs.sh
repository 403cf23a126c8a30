# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this read them
# What can be turned, in one table, and how a value is found: read by check, apply and revert.
# Nothing in this file changes anything.
#
# Every path is one of the machine, without the fake root that tests put in front of it:
# read_value adds it. A value is one line, with single spaces.

# The directory put in front of every path: --root DIR or UPRING_ROOT. Empty for the real machine.
root=${UPRING_ROOT:-}

# What apply has changed: one line a change, fields parted by tabs: path, before, after, knob, when.
journal=/var/lib/upring/tuning.journal

# Stands for a file that does not exist.
absent='(no file)'

# The listen backlog that upring asks for, and its connections a worker: src/config.rs.
backlog=4096
connections_max=16384

# The names in the order of the table, and what is known of each.
names=()
declare -A kind wanted group what why origin

# knob NAME KIND WANTED GROUP WHAT WHY SOURCE
#
# KIND says what a value may be: `number`, `numbers` (two), `word:a,b`, `group`, `device` or `user`
# (then the argument is a name and the values follow from it).
# WANTED: `=V`, `>=V`, or `?` where no value is right for every machine.
# GROUP: the name under which apply takes it with others, or `-`.
knob() {
  names+=("$1")
  kind[$1]=$2 wanted[$1]=$3 group[$1]=$4 what[$1]=$5 why[$1]=$6 origin[$1]=$7
}

knob kernel.io_uring_disabled word:0,1,2 =0 server \
  'who may create rings: 0 everybody, 1 kernel.io_uring_group and CAP_SYS_ADMIN, 2 nobody' \
  'at 2, or at 1 without the group, the server cannot start' \
  'Documentation/admin-guide/sysctl/kernel.rst, io_uring_disabled'
knob kernel.io_uring_group group '?' - \
  'the group that may create rings while kernel.io_uring_disabled is 1' \
  'keeps io_uring from everybody but the service: the narrower of the two ways to let it start' \
  'Documentation/admin-guide/sysctl/kernel.rst, io_uring_group'
knob net.core.somaxconn number ">=$backlog" server \
  'caps the backlog of every listener' \
  "upring asks for $backlog; a burst beyond the cap waits for a retransmitted SYN" \
  'listen(2); Documentation/networking/ip-sysctl.rst, somaxconn'
knob net.ipv4.tcp_syncookies word:0,1,2 =1 server \
  'answers SYNs without memory of them once the backlog is full' \
  'without, a flood of SYNs keeps everybody else out' \
  'Documentation/networking/ip-sysctl.rst, tcp_syncookies; RFC 4987 section 3.6'
knob net.ipv4.tcp_max_syn_backlog number '?' - \
  'how many half-open connections a listener remembers' \
  'counts only while net.ipv4.tcp_syncookies is 0; otherwise the backlog decides' \
  'net/ipv4/tcp_input.c, tcp_conn_request(); Documentation/networking/ip-sysctl.rst'
knob net.core.netdev_max_backlog number '>=1000' server \
  'packets a core queues for itself: loopback, RPS, and cards without NAPI' \
  'what does not fit is dropped, and counted in the second column of /proc/net/softnet_stat' \
  'Documentation/admin-guide/sysctl/net.rst, netdev_max_backlog; scaling.rst, RPS Flow Limit'
knob fs.file-max number ">=files" server \
  'open files of the whole machine' \
  'every connection is one, with direct descriptors, too' \
  'Documentation/admin-guide/sysctl/fs.rst, file-max'
knob fs.nr_open number '>=1048576' server \
  'how high RLIMIT_NOFILE may be set' \
  'below the LimitNOFILE of the unit, the unit gets less than it asks for' \
  'Documentation/admin-guide/sysctl/fs.rst, nr_open; getrlimit(2)'
knob net.ipv4.ip_local_port_range numbers '>=10240 65535' generator \
  'the ports that outgoing connections leave from' \
  'a generator or a tunnel has so many connections to one address, and no more' \
  'Documentation/networking/ip-sysctl.rst, ip_local_port_range'
knob net.ipv4.tcp_tw_reuse word:0,1,2 '?' - \
  'lets outgoing connections take a port that is in TIME-WAIT' \
  'only for who connects much; the kernel asks not to change it without expert advice' \
  'Documentation/networking/ip-sysctl.rst, tcp_tw_reuse; RFC 6191'
knob net.ipv4.tcp_notsent_lowat number '?' - \
  'bytes of a connection that wait unsent in the kernel' \
  'less memory for slow clients, for more wake-ups: not measured' \
  'Documentation/networking/ip-sysctl.rst, tcp_notsent_lowat; tcp(7)'
knob net.core.busy_read number '?' - \
  'microseconds a receive looks at the queue of the card before it gives up' \
  'shorter way for a packet, for a core that spins; nothing on loopback, which has no queue' \
  'Documentation/admin-guide/sysctl/net.rst, busy_read; loadtest/EXPERIMENTS.md, busy polling'
knob net.core.busy_poll number '?' - \
  'microseconds that poll, select and epoll do the same for their sockets' \
  'nothing for upring: its connections are in none of these, and its rings register no NAPI' \
  'Documentation/admin-guide/sysctl/net.rst, busy_poll; loadtest/EXPERIMENTS.md, busy polling'
knob irq device '?' - \
  'spreads the interrupts of a card: the n-th queue to the n-th core' \
  'receiving is much of the work, and is done where the interrupt arrives; --steer counts on it' \
  'Documentation/networking/scaling.rst, RSS IRQ Configuration; core-api/irq/irq-affinity.rst'
knob rps device '?' - \
  'spreads received packets over all cores in software' \
  'for a card with fewer queues than cores; with a queue a core it only costs' \
  'Documentation/networking/scaling.rst, RPS'
knob rfs device '?' - \
  'receives the packets of a connection on the core whose thread read it last' \
  'spares the way between cores; with --steer there is none' \
  'Documentation/networking/scaling.rst, RFS'
knob xps device '?' - \
  'has each core send through a queue of its own' \
  'no lock between cores, and the completion comes back to where the packet was made' \
  'Documentation/networking/scaling.rst, XPS'
knob hugepages word:always,madvise,never '?' - \
  'transparent huge pages for all programs' \
  'upring does without them, whatever is set; huge receive buffers gained nothing' \
  'Documentation/admin-guide/mm/transhuge.rst; loadtest/EXPERIMENTS.md, huge pages'
knob governor word:performance,schedutil,powersave,ondemand,conservative '?' - \
  'how fast the cores run while there is little to do' \
  'performance: no slow first requests after idleness, for more power' \
  'Documentation/admin-guide/pm/cpufreq.rst, Generic Scaling Governors'
knob nofile user '?' - \
  'RLIMIT_NOFILE of the logins of a user' \
  'for a server started from a shell; a unit has LimitNOFILE' \
  'limits.conf(5); getrlimit(2)'
knob memlock user '?' - \
  'RLIMIT_MEMLOCK of the logins of a user' \
  'the memory of rings counts against it; a unit has LimitMEMLOCK' \
  'limits.conf(5); io_uring_setup(2), ENOMEM'

# What a machine of this size wants, as a table's WANTED with the sums done.
wanted_of() {
  local value=${wanted[$1]}
  if [ "$value" = '>=files' ]; then
    local all
    mapfile -t all < <(cores)
    value=">=$((${#all[@]} * connections_max + 8192))"
  fi
  printf '%s\n' "$value"
}

# The contents of a file, on one line; fails if it cannot be read.
read_value() {
  local text
  text=$({ cat "$root$1"; } 2>/dev/null) || return 1
  # A choice of words has the chosen one in brackets.
  if [[ $1 == */transparent_hugepage/enabled && $text =~ \[([a-z]+)\] ]]; then
    text=${BASH_REMATCH[1]}
  fi
  local words
  read -r -d '' -a words <<<"$text" || true
  printf '%s\n' "${words[*]}"
}

# Whether two values are the same to the kernel: a mask is read back with commas and zeros.
is_same() {
  local path=$1 one=$2 other=$3
  if [[ $path == */rps_cpus || $path == */xps_cpus ]]; then
    one=$(plain_mask "$one") other=$(plain_mask "$other")
  fi
  [ "$one" = "$other" ]
}

plain_mask() {
  local mask=${1//,/}
  mask=${mask,,}
  while [[ $mask == 0?* ]]; do mask=${mask#0}; done
  printf '%s\n' "$mask"
}

# The numbers of the cores that are on, one a line.
cores() {
  local list range
  list=$(read_value /sys/devices/system/cpu/online) || list=0
  for range in ${list//,/ }; do
    seq "${range%-*}" "${range#*-}"
  done
}

# The cores named as a mask of hexadecimal words of 32 bits, the way sysfs takes it.
mask_of() {
  local words=() core index text=
  for core; do
    index=$((core / 32))
    words[index]=$((${words[index]:-0} | 1 << core % 32))
  done
  local given=("${!words[@]}")
  for ((index = given[${#given[@]} - 1]; index >= 0; index--)); do
    if [ -z "$text" ]; then
      printf -v text '%x' "${words[index]:-0}"
    else
      printf -v text '%s,%08x' "$text" "${words[index]:-0}"
    fi
  done
  printf '%s\n' "$text"
}

# The network devices that have hardware, or a driver that says so, behind them.
devices() {
  local path
  for path in "$root"/sys/class/net/*/device; do
    [ -e "$path" ] || continue
    path=${path%/device}
    printf '%s\n' "${path##*/}"
  done
}

# Paths of the queues of a device, `rx` or `tx`, in the order of their numbers.
queues() {
  local path
  for path in "$root/sys/class/net/$1/queues/$2"-*; do
    [ -e "$path" ] && printf '%s\n' "${path#"$root"}"
  done | sort -t - -k 3n -k 2n
}

# The interrupts of the queues of a device: number of the interrupt, number of the queue.
#
# Which they are is in /proc/interrupts: by the name of the device, or, where drivers name them
# otherwise (`virtio0-input.0`), by the numbers that the device has in sysfs.
interrupts() {
  local device=$1 own=' ' path
  for path in "$root/sys/class/net/$device/device"/{,../}msi_irqs/*; do
    [ -e "$path" ] && own+="${path##*/} "
  done
  { cat "$root/proc/interrupts"; } 2>/dev/null | awk -v device="$device" -v own="$own" '
    $1 !~ /^[0-9]+:$/ { next }
    {
      number = $1; sub(":", "", number); name = $NF
      if (name ~ /config|control|async|mgmt|fdir/) next
      if (index(own, " " number " ") == 0 && index("-" name "-", "-" device "-") == 0 \
        && index(name, device "@") == 0) next
      # The queue is the last number of the name, before any address of the bus.
      sub("@.*", "", name)
      if (match(name, /[0-9]+$/)) print number, substr(name, RSTART)
    }'
}

# What a knob with this argument writes: path and value, parted by a tab, one a line.
# Empty if there is nothing that it could be written to.
targets() {
  local name=$1 argument=$2 all path count number queue
  case $name in
    irq)
      mapfile -t all < <(cores)
      while read -r number queue; do
        printf '/proc/irq/%s/smp_affinity_list\t%s\n' "$number" "${all[queue % ${#all[@]}]}"
      done < <(interrupts "$argument")
      ;;
    rps)
      mapfile -t all < <(cores)
      for path in $(queues "$argument" rx); do
        printf '%s/rps_cpus\t%s\n' "$path" "$(mask_of "${all[@]}")"
      done
      ;;
    rfs)
      count=$(queues "$argument" rx | wc -l)
      [ "$count" -gt 0 ] || return 0
      printf '/proc/sys/net/core/rps_sock_flow_entries\t32768\n'
      for path in $(queues "$argument" rx); do
        printf '%s/rps_flow_cnt\t%s\n' "$path" "$((32768 / count))"
      done
      ;;
    xps) xps_targets "$argument" ;;
    hugepages) printf '/sys/kernel/mm/transparent_hugepage/enabled\t%s\n' "$argument" ;;
    governor)
      for path in "$root"/sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do
        [ -e "$path" ] && printf '%s\t%s\n' "${path#"$root"}" "$argument"
      done
      ;;
    nofile) limit_target "$argument" nofile 1048576 ;;
    memlock) limit_target "$argument" memlock 65536 ;;
    *) printf '/proc/sys/%s\t%s\n' "${name//.//}" "$argument" ;;
  esac
  # Not the outcome of the last test.
  return 0
}

# Core n sends through queue n; where there are fewer queues, several cores share one.
xps_targets() {
  local paths all index position
  mapfile -t paths < <(queues "$1" tx)
  mapfile -t all < <(cores)
  # With one queue there is no choice, and the kernel refuses the file.
  [ "${#paths[@]}" -gt 1 ] || return 0
  for ((index = 0; index < ${#paths[@]} && index < ${#all[@]}; index++)); do
    local own=()
    for ((position = index; position < ${#all[@]}; position += ${#paths[@]})); do
      own+=("${all[position]}")
    done
    printf '%s/xps_cpus\t%s\n' "${paths[index]}" "$(mask_of "${own[@]}")"
  done
}

# A file of limits.conf(5) for one user; memlock counts in KiB there.
limit_target() {
  printf '/etc/security/limits.d/60-upring-%s-%s.conf\t%s - %s %s\n' "$1" "$2" "$1" "$2" "$3"
}

# Whether a value is what the table wants: `ok`, `change`, or `choose` if it wants nothing.
verdict() {
  local name=$1 value=$2 want
  want=$(wanted_of "$name")
  case $name in
    kernel.io_uring_disabled)
      # With a group of its own the service starts at 1, too.
      local service
      service=$(read_value /proc/sys/kernel/io_uring_group) || service=-1
      if [ "$value" = 1 ] && [ "$service" != -1 ] && [ "$service" != 4294967295 ]; then
        echo ok
        return
      fi
      ;;
    net.ipv4.tcp_syncookies) [ "$value" = 2 ] && want='=2' ;;
    net.core.netdev_max_backlog)
      if [ "$(packets_dropped)" -gt 0 ] && [ "$value" -lt 10000 ]; then
        echo change
        return
      fi
      ;;
  esac
  if [ "$want" = '?' ]; then
    echo choose
  elif is_enough "$want" "$value"; then
    echo ok
  else
    echo change
  fi
}

is_enough() {
  local want=$1 value=$2
  case $want in
    '='*) [ "$value" = "${want#=}" ] ;;
    '>='*' '*)
      # Two numbers: the range that is wanted lies within the one that is.
      want=${want#>=}
      [ "${value% *}" -le "${want% *}" ] && [ "${value#* }" -ge "${want#* }" ]
      ;;
    # More digits than the shell can count are enough of anything.
    '>='*) [ "${#value}" -gt 18 ] || [ "$value" -ge "${want#>=}" ] ;;
  esac
}

# Packets that did not fit into a core's queue since the machine started.
packets_dropped() {
  local sum=0 dropped
  while read -r _ dropped _; do sum=$((sum + 16#$dropped)); done \
    < <({ cat "$root/proc/net/softnet_stat"; } 2>/dev/null)
  echo "$sum"
}

# The value that apply writes for a knob named alone; fails if the table has none.
value_wanted() {
  local want
  want=$(wanted_of "$1")
  if [ "$1" = net.core.netdev_max_backlog ] && [ "$(packets_dropped)" -gt 0 ]; then
    want='>=10000'
  fi
  [ "$want" != '?' ] || return 1
  want=${want#>}
  printf '%s\n' "${want#=}"
}

# Whether apply could have written to this path: whatever else a journal names is not touched.
is_ours() {
  case $1 in
    *..* | *//*) false ;;
    /proc/sys/* | /proc/irq/*/smp_affinity_list | /sys/class/net/*/queues/*) true ;;
    /sys/kernel/mm/transparent_hugepage/enabled) true ;;
    /sys/devices/system/cpu/cpufreq/policy*/scaling_governor) true ;;
    /etc/security/limits.d/60-upring-* | /etc/sysctl.d/60-upring-*) true ;;
    *) false ;;
  esac
}

is_known() { [ -n "${kind[$1]:-}" ]; }

# What somebody who wrote this may have meant: the nearest of some words, if it is near.
nearest() {
  local meant=$1
  shift
  printf '%s\n' "$@" | awk -v meant="$meant" '
    function least(a, b) { return a < b ? a : b }
    function distance(a, b,   i, j, row, last, next_last) {
      for (j = 0; j <= length(b); j++) row[j] = j
      for (i = 1; i <= length(a); i++) {
        last = row[0]; row[0] = i
        for (j = 1; j <= length(b); j++) {
          next_last = row[j]
          row[j] = least(least(row[j], row[j - 1]) + 1, \
            last + (substr(a, i, 1) != substr(b, j, 1)))
          last = next_last
        }
      }
      return row[length(b)]
    }
    # The end of a name alone is as good as all of it.
    { far = distance(meant, $0); tail = $0; sub(".*[.]", "", tail)
      far = least(far, distance(meant, tail)) }
    best == "" || far < fewest { best = $0; fewest = far }
    END { if (fewest <= 1 + length(meant) / 3) print best }'
}

# One line to standard error, with the name of the script that says it.
complain() { printf '%s: %s\n' "tuning/${0##*/}" "$*" >&2; }

# Takes the fake root that an option or UPRING_ROOT names; it must exist.
set_root() {
  root=${1%/}
  if [ ! -d "$root/" ]; then
    complain "$1 is no directory"
    exit 64
  fi
}

[ -z "$root" ] || set_root "$root"

# Changing a machine takes root; a fake one whoever owns it.
need_root() {
  if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then
    complain "this changes the machine and needs root: run it by sudo, or try it with --dry-run"
    exit 77
  fi
}

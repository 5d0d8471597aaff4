# shellcheck shell=bash
# The promises of the unit and of systemd/README.md, each a function, and below them the order they are tried in.
# tests/systemd/run reads this file when the machine has booted; machine, readme, within, promise and equals are
# from there.

: "${leader:?} ${scratch:?} ${source_dir:?}" # set by tests/systemd/run

config=/etc/oxen-sync/oxen-sync.toml
api=http://localhost:3000

# --- What is asked of the service and the server --------------------------------------------------------------------
show() { machine systemctl show --value -p "$1" oxen-sync; }
pid() { # nothing where there is none: 0 would mean everyone to kill
  local process
  process=$(show MainPID)
  [[ $process != 0 ]] && echo "$process"
}
# As the kernel writes them: 1 << 28 is CAP_LEASE, 1 << 2 is CAP_DAC_READ_SEARCH.
capabilities() { machine sed -n 's/^CapEff:\s*0*//p' "/proc/$(pid)/status"; }
runs() { pid >/dev/null || { echo "the service does not run"; return 1; }; }
is_active() { [[ $(show ActiveState) == active ]]; }
restarted_since() { is_active && runs && [[ $(pid) != "$1" ]]; }
journal() { machine journalctl --no-pager -o cat -u oxen-sync; }
on_branch() { machine curl -sf "$api/api/repos/$1/file/main/$2" | cmp - "/proc/$leader/root$3"; }
commits() {
  machine curl -s "$api/api/repos/$1/commits/history/main?page=1&page_size=1" |
    grep -oE '"total_entries": *[0-9]+' | grep -oE '[0-9]+' || echo 0
}

# Makes a file of some bytes that belongs to a user who is neither us nor the service.
put() {
  local file=$1 bytes=${2:-1000} mode=${3:-640}
  machine bash -euc "umask 077; cd \"\$(dirname '$file')\"; head -c $bytes /dev/urandom >.new.tmp
    chown rig: .new.tmp; chmod $mode .new.tmp; mv .new.tmp '$file'"
}
lands() { within "${4:-20}" on_branch "$1" "$2" "$3"; }
put_and_see() { put "/data/camera/$1" "${@:2}" && lands lab/cells "$1" "/data/camera/$1"; }

# --- The promises ---------------------------------------------------------------------------------------------------
unit_is_clean() { local told; told=$(machine systemd-analyze verify oxen-sync.service 2>&1) && equals verify "$told" ''; }

unit_is_tight() {
  machine systemd-analyze security --offline=true --threshold=15 \
    /etc/systemd/system/oxen-sync.service | tail -n 1
}

prepare_folder_and_config() {
  machine bash -euc '
    useradd --system --user-group --create-home --home-dir /home/rig --shell /bin/bash rig 2>&1
    install -d -o rig -g rig -m 750 /data/camera /home/rig/scans
    groupadd --force --system lab' &&
    put /data/camera/private.raw 1000 600 &&
    readme config &&
    machine sed -i 's/^#settle.quiet = .*/settle.quiet = "300ms"/; s/^#batch.quiet = .*/batch.quiet = "200ms"/' "$config"
}

start_server() {
  machine systemd-run --quiet --unit=oxen-server --setenv=SYNC_DIR=/srv/oxen-server \
    /usr/local/bin/oxen-server start -i 127.0.0.1 -p 3000 && within 30 machine curl -sf "$api/api/health"
}

# The program is held just before it begins: a unit that is "active" by then does not wait for READY=1.
drop_in() { machine bash -euc "mkdir -p /run/systemd/system/oxen-sync.service.d
  cat >/run/systemd/system/oxen-sync.service.d/test.conf; systemctl daemon-reload"; }
no_drop_in() { machine bash -euc 'rm -r /run/systemd/system/oxen-sync.service.d; systemctl daemon-reload'; }
is_held() { machine grep -q '^State:.T' "/proc/$(pid)/status"; }
waits_for_ready() {
  drop_in <<'UNIT'
[Service]
ExecStart=
ExecStart=/bin/sh -c 'kill -STOP $$$$; exec /usr/local/bin/oxen-sync run --config /etc/oxen-sync/oxen-sync.toml'
UNIT
  readme start &
  tried+=(start) # that was a subshell
  local start=$! held=0
  within 20 is_held && equals "the state before READY" "$(show ActiveState)" activating || held=1
  machine kill -CONT "$(pid)" || held=1
  wait "$start" && no_drop_in && ((held == 0)) && equals "the state after the start" "$(show ActiveState)" active
}

tells_status() { [[ -n $(show StatusText) ]] || { echo "no STATUS= text"; return 1; }; }

waits_for_the_writer() {
  # Another user's process keeps a file open; a later file is pushed before it, and it is pushed once it is closed.
  machine systemd-run --quiet --unit=writer -p User=rig \
    bash -c 'exec 3>/data/camera/held; echo begin >&3; read -r _ </proc/self/fd/0 || true; sleep infinity' &&
    within 10 machine grep -q begin /data/camera/held && put_and_see after-held || return 1
  ! on_branch lab/cells held /data/camera/held >/dev/null 2>&1 || { echo "pushed while it was open"; return 1; }
  machine systemctl stop writer && lands lab/cells held /data/camera/held
}

reload_adds() {
  machine tee -a "$config" >/dev/null <<'TOML'
[[folder]]
path = "/home/rig/scans"
repo = "lab/scans"
TOML
  local before
  before=$(pid) && readme reload && put /home/rig/scans/first && lands lab/scans first /home/rig/scans/first &&
    equals "the process" "$(pid)" "$before"
}

refuses_broken() {
  local before held=0
  before=$(pid) || return 1
  machine bash -euc "cp $config /root/good.toml; echo 'settle = [' >>$config" && readme reload || held=1
  within 10 explained && put_and_see while-broken && equals "the process" "$(pid)" "$before" || held=1
  readme status >"$scratch/told" 2>&1 || { echo "status fails"; held=1; }
  if ! grep -qF 'settle = [' "$scratch/told" || ! grep -qF /data/camera "$scratch/told"; then
    printf 'status does not show both the line and the folder; it says:\n%s\n' "$(<"$scratch/told")"
    held=1
  fi
  machine bash -euc "cp /root/good.toml $config" && readme reload && put_and_see after-broken && ((held == 0))
}
# The file, the line itself and a caret below it.
explained() { journal | grep -F "$config" && journal | grep -F 'settle = [' && journal | grep -E '\^'; }

answers_status() { readme systemctl-status && readme status && readme log; }

# Its text, not only its fields, which journalctl does not show by itself.
log_names_folders() {
  within 5 log_says committed || { journal | tail -n 5; return 1; }
}
log_says() { journal | grep -F "$1" | grep -F /data/camera; }

gives_key() {
  key=oxk-$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
  readonly key
  readme key <<<"$key" && machine systemctl restart oxen-sync &&
    machine grep -qx "$key" /run/credentials/oxen-sync.service/oxen-api-key && put_and_see with-key
}

hides_key() {
  local process where
  process=$(pid) || return 1
  machine cat "/proc/$process/environ" "/proc/$process/cmdline" >"$scratch/told"
  {
    machine systemctl show oxen-sync
    machine systemctl cat oxen-sync
    machine journalctl --no-pager -o export
    machine ps axww -o args
    readme status
    machine runuser -u oxen-sync -- oxen-sync status --json --config "$config" || true
  } >>"$scratch/told" 2>&1
  ! where=$(grep -aF -- "$key" "$scratch/told") || { echo "it is in: ${where//"$key"/THE-KEY}"; return 1; }
  ! machine runuser -u rig -- cat /run/credentials/oxen-sync.service/oxen-api-key 2>/dev/null ||
    { echo "another user can read it"; return 1; }
}

keeps_its_state_private() {
  equals "the state directory" "$(machine stat -c '%U %a' /var/lib/oxen-sync)" "oxen-sync 700" &&
    equals "the socket" "$(machine stat -c '%U %a' /var/lib/oxen-sync/oxen-sync.sock)" "oxen-sync 600"
}

# Looks from inside the service's own mount namespace, as root, who is bound by no mode.
service_view() { nsenter --target "$leader" --mount --pid -- nsenter --target "$(pid)" --mount -- "$@"; }
cannot_touch_data() {
  local path
  runs || return 1
  for path in /data/camera /home/rig/scans /etc/oxen-sync /usr/local/bin; do
    ! service_view touch "$path/touched" 2>/dev/null || { echo "the service can write to $path"; return 1; }
  done
  for path in /etc/shadow /etc/ssh /root /etc/credstore; do
    machine grep -rqs . "$path" || { echo "nothing to hide in $path: this shows nothing"; return 1; }
    ! service_view grep -rqs . "$path" || { echo "the service can read $path"; return 1; }
  done
  equals "its capabilities" "$(capabilities)" 10000004
}

survives_kill() {
  local before process
  before=$(commits lab/cells)
  process=$(pid) || return 1
  put /data/camera/at-the-kill 3000000 && machine kill -KILL "$process" &&
    within 20 restarted_since "$process" && lands lab/cells at-the-kill /data/camera/at-the-kill &&
    put_and_see after-the-kill && equals "the number of commits" "$(commits lab/cells)" $((before + 2))
}

stops() {
  local begin=$SECONDS
  machine systemctl stop oxen-sync || return 1
  # The code 1 is CLD_EXITED: it went by itself.
  equals "its end" "$(show Result) $(show ExecMainCode) $(show ExecMainStatus)" "success 1 0" || return 1
  ((SECONDS - begin < 45)) || { echo "it took $((SECONDS - begin)) s"; return 1; }
}

fails_once_for_broken() {
  machine bash -euc "cp $config /root/good.toml; echo 'settle = [' >>$config"
  # It fails, and not by the limit for restarts: that is off.
  ! machine systemctl restart oxen-sync || { echo "it starts"; return 1; }
  equals "the state and the exit code" "$(show ActiveState) $(show ExecMainStatus)" "failed 2" || return 1
  machine bash -euc "cp /root/good.toml $config; systemctl restart oxen-sync" && put_and_see after-mending
}

finds_what_it_missed() {
  local before
  before=$(commits lab/cells)
  put /data/camera/while-down && machine systemctl start oxen-sync &&
    lands lab/cells while-down /data/camera/while-down && put_and_see after-down &&
    equals "the number of commits" "$(commits lab/cells)" $((before + 2))
}

barks() {
  drop_in <<<$'[Service]\nWatchdogSec=3' && machine systemctl restart oxen-sync || return 1
  local process
  process=$(pid) || return 1
  put_and_see before-the-hang && machine kill -STOP "$process" && within 40 restarted_since "$process" || return 1
  journal | grep 'Watchdog timeout' || { echo "restarted, but not by the watchdog"; return 1; }
  put_and_see after-the-hang && no_drop_in && machine systemctl restart oxen-sync
}

works_with_grants() {
  readme without-dac &&
    equals "its capabilities" "$(capabilities)" 10000000 &&
    readme grant && machine runuser -u rig -- bash -c 'umask 027; echo granted >/data/camera/granted' &&
    lands lab/cells granted /data/camera/granted
}

works_by_group() {
  machine setfacl -R -b /data/camera && machine chgrp -R lab /data/camera && readme group &&
    put /data/camera/by-group && machine chgrp lab /data/camera/by-group &&
    lands lab/cells by-group /data/camera/by-group
}

takes_off() {
  machine install -d -o oxen-sync /data/pushed &&
    machine sed -i 's|^path = "/data/camera"$|&\nafter_push = { do = "move", min_age = "2s", move_to = "/data/pushed" }|' "$config" &&
    machine grep -q '^after_push' "$config" && readme after-push && put /data/camera/goes &&
    machine cp /data/camera/goes /root/goes && within 40 machine test -e /data/pushed/goes && ! machine test -e /data/camera/goes &&
    machine cmp /root/goes /data/pushed/goes && on_branch lab/cells goes /root/goes
}

keeps_key_encrypted() {
  readme encrypt && machine grep -qx "$key" /run/credentials/oxen-sync.service/oxen-api-key &&
    ! machine grep -rqF "$key" /etc
}

takes_second_key() {
  machine install -D -m 600 /dev/stdin /etc/credstore/oxen-api-key-hub <<<"second" && readme second-key &&
    machine grep -qx second /run/credentials/oxen-sync.service/oxen-api-key-hub &&
    machine grep -qx "$key" /run/credentials/oxen-sync.service/oxen-api-key
}

has_pages() {
  readme pages && machine test -s /usr/local/share/man/man1/oxen-sync-push.1 &&
    machine grep -q remote-dir /usr/local/share/{bash-completion/completions/oxen-sync,zsh/site-functions/_oxen-sync} &&
    machine grep -q remote-dir /usr/local/share/fish/vendor_completions.d/oxen-sync.fish
}

goes_without_trace() {
  readme remove && ! machine pgrep -x oxen-sync && ! machine systemctl cat oxen-sync 2>/dev/null &&
    equals "what is left of it in /usr/local" "$(machine find /usr/local -name '*oxen-sync*')" ''
}

every_block_was_run() {
  local name
  while read -r name; do
    [[ " ${tried[*]} " == *" $name "* ]] || { echo "not run: $name"; return 1; }
  done < <(sed -n 's/^<!-- tried: \(.*\) -->$/\1/p' "$source_dir/systemd/README.md")
  ! grep -B1 '^```sh$' "$source_dir/systemd/README.md" | grep -vE '^(<!-- tried( with the package)?: .* -->|```sh|--)$' ||
    { echo "a block without a name"; return 1; }
}

# --- In this order -------------------------------------------------------------------------------------------
vital "README: program, user, unit and limits are installed" readme install
promise "README: man pages and completions are where they are looked for" has_pages
promise "systemd-analyze verify finds nothing" unit_is_clean
promise "systemd-analyze security gives at most 1.5" unit_is_tight
vital "README: the config is installed" prepare_folder_and_config
start_server >"$scratch/why" 2>&1 || die "the Oxen server does not start: $(cat "$scratch/why")"
promise "README: check, seen as the service sees it, finds nothing wrong" readme check
vital "the unit is active after READY=1 and not before, and needs no key" waits_for_ready
promise "systemctl status shows what the service is doing" tells_status
vital "another user's file (0640, in a directory 0750) is on the branch, byte for byte" put_and_see first 3000000
promise "a file that another user's process has open waits until it is closed" waits_for_the_writer
promise "reload: a second folder, below /home, is watched by the same process" reload_adds
promise "reload: a broken config changes nothing and is explained in journal and status" refuses_broken
promise "README: status and log answer while it runs" answers_status
promise "the log names the folder of a commit" log_names_folders
promise "README: the key reaches the service as a credential" gives_key
promise "the key is in no process list, environment, journal, status or systemctl show" hides_key
promise "state directory and socket are for the service alone" keeps_its_state_private
promise "data, secrets and system are out of its reach for writing, and its capabilities are two" cannot_touch_data
promise "kill -9: restarted, the file is on the branch, nothing is committed twice" survives_kill
promise "stop: exit 0 within TimeoutStopSec" stops
promise "README: status answers while it is stopped" readme status
promise "start: what changed meanwhile is on the branch, nothing is committed twice" finds_what_it_missed
promise "a broken config at the start: failed, not tried again; mended, it starts" fails_once_for_broken
promise "watchdog: a hung process is ended, restarted and goes on" barks
promise "README: works with granted folders and without CAP_DAC_READ_SEARCH" works_with_grants
promise "README: works by group" works_by_group
promise "README: with the folder opened to it, what was pushed is moved away" takes_off
promise "README: the key can lie encrypted" keeps_key_encrypted
promise "README: a second server's key reaches the service" takes_second_key
promise "README: remove leaves no service behind" goes_without_trace
promise "README: every block of commands was run" every_block_was_run

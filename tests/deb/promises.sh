# shellcheck shell=bash
# The promises of the Debian package, each a function, and below them the order they are tried in. tests/deb/run reads
# this file when the Debian is there; debian, promise, vital, equals and holds are from there.

: "${root:?} ${scratch:?} ${source_dir:?}" # set by tests/deb/run

config=/etc/oxen-sync/oxen-sync.toml
state=/var/lib/oxen-sync/state.db

files() { dpkg-deb -c "$scratch/packages/1.deb" | awk '$1 !~ /^d/ { print $1, $2, substr($6, 2) }' | LC_ALL=C sort -k 3; }
field() { dpkg-deb -f "$scratch/packages/1.deb" "$1"; }
# shellcheck disable=SC2016 # what dpkg-query fills in
status() { debian dpkg-query -W -f '${db:Status-Status} ${Version}' oxen-sync; }
is_gone() { [[ ! -e $root$1 && ! -L $root$1 ]] || { echo "$1 is still there"; return 1; }; }
are_gone() { local path; for path in "$@"; do is_gone "$path" || return; done; }

# Runs the command block NAME of systemd/README.md, as it stands there and with a person who says yes.
tried=()
readme() {
  tried+=("$1")
  local block
  block=$(awk -v mark="<!-- tried with the package: $1 -->" '
    $0 == mark { found = 1; next } found && /^```sh$/ { inside = 1; next } inside && /^```$/ { exit } inside' \
    "$source_dir/systemd/README.md")
  [[ -n $block ]] || { echo "systemd/README.md has no block \"$1\""; return 1; }
  debian bash -euc "cd /root; yes 2>/dev/null | { $block"$'\n}' >"$scratch/told" 2>&1 || { cat "$scratch/told"; return 1; }
}

# A systemd that seems to run, and writes down what it is asked.
pretend_systemd() {
  mkdir -p "$root/run/systemd/system"
  printf '#!/bin/sh\necho "$*" >>/run/asked\n' >"$root/usr/local/bin/systemctl"
  chmod 755 "$root/usr/local/bin/systemctl"
  : >"$root/run/asked"
}
no_systemd() { rm -rf "$root/run/systemd" "$root/usr/local/bin/systemctl" "$root/run/asked"; }

# --- The promises ---------------------------------------------------------------------------------------------------
everything_is_in_its_place() {
  local man=() name program=$scratch/program
  dpkg-deb --fsys-tarfile "$scratch/packages/1.deb" | tar -xO ./usr/bin/oxen-sync >"$program" && chmod +x "$program" || return
  # A page for each command that it has.
  for name in "" $("$program" --help | sed -n '/^Commands:$/,/^$/s/^  \([a-z]\+\) .*/-\1/p' | grep -vx -e -help); do man+=("-rw-r--r-- 0/0 /usr/share/man/man1/oxen-sync$name.1.gz"); done
  equals files "$(files)" "$(LC_ALL=C sort -k 3 <<FILES
-rw-r--r-- 0/0 /etc/oxen-sync/oxen-sync.toml
-rwxr-xr-x 0/0 /usr/bin/oxen-sync
-rw-r--r-- 0/0 /usr/lib/sysctl.d/60-oxen-sync.conf
-rw-r--r-- 0/0 /usr/lib/systemd/system/oxen-sync.service
-rw-r--r-- 0/0 /usr/lib/sysusers.d/oxen-sync.conf
-rw-r--r-- 0/0 /usr/share/bash-completion/completions/oxen-sync
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/README.md
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/SECURITY.md
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/changelog.Debian.gz
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/changelog.gz
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/copyright
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/grafana-dashboard.json
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/oxen-sync.toml
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/prometheus-alerts.yml
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/status.schema.json
-rw-r--r-- 0/0 /usr/share/doc/oxen-sync/systemd.md
-rw-r--r-- 0/0 /usr/share/fish/vendor_completions.d/oxen-sync.fish
$(printf '%s\n' "${man[@]}")
-rw-r--r-- 0/0 /usr/share/zsh/vendor-completions/_oxen-sync
FILES
)"
}

only_the_config_is_a_conffile() { equals conffiles "$(dpkg-deb -I "$scratch/packages/1.deb" conffiles)" "$config"; }

it_says_what_it_is() {
  local version
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source_dir/Cargo.toml" | head -n 1)
  equals Package "$(field Package)" oxen-sync && equals Version "$(field Version)" "$version-1" &&
    holds Depends "$(field Depends)" systemd && [[ $(field Description | head -n 1) == "Watches folders"*repository ]]
}

the_unit_is_the_one_of_the_source() { cmp "$root/usr/lib/systemd/system/oxen-sync.service" "$source_dir/systemd/oxen-sync.service"; }

installs() {
  mkdir -p "$root/root/target/debian"
  cp "$root/root/1.deb" "$root/root/target/debian/oxen-sync_1.deb"
  readme install || return
  holds apt "$(<"$scratch/told")" "systemctl enable --now oxen-sync" && holds status "$(status)" "installed "
}

starts_nothing_by_itself() {
  equals is-enabled "$(debian systemctl is-enabled oxen-sync 2>&1 || true)" disabled &&
    equals "started by a boot" "$(find "$root/etc/systemd" -name 'oxen-sync*')" ''
}

the_program_runs() {
  holds version "$(debian oxen-sync --version)" "oxen-sync " &&
    equals "where it lies" "$(debian sh -c 'command -v oxen-sync')" /usr/bin/oxen-sync
}

# 2 would be a config that cannot be used; 1 is that there is neither folder nor server.
the_config_is_right() {
  local status=0
  debian oxen-sync check >"$scratch/told" 2>&1 || status=$?
  equals "the end of check" "$status" 1 || { cat "$scratch/told"; return 1; }
  equals state_dir "$(grep ^state_dir "$root$config")" 'state_dir = "/var/lib/oxen-sync"' &&
    ! grep -v -x -F -f "$source_dir/config/oxen-sync.toml" "$root$config" | grep -v -e '^#' -e '^state_dir'
}

the_user_is_there() {
  local user
  user=$(debian getent passwd oxen-sync) && holds user "$user" ":/var/lib/oxen-sync:/usr/sbin/nologin"
}

the_unit_is_clean() { local told; told=$(debian systemd-analyze verify --man=no oxen-sync.service 2>&1) && equals verify "$told" ''; }

pages_and_completions_can_be_read() {
  local page
  for page in "$root"/usr/share/man/man1/oxen-sync*.1.gz; do
    [[ $(zcat "$page") == *".SH NAME"* ]] || { echo "$page is no page"; return 1; }
  done
  debian bash -n /usr/share/bash-completion/completions/oxen-sync &&
    holds copyright "$(<"$root/usr/share/doc/oxen-sync/copyright")" "Permission is hereby granted" &&
    holds changelog "$(zcat "$root/usr/share/doc/oxen-sync/changelog.Debian.gz")" "oxen-sync ($(field Version)) "
}

# What a person leaves behind while the package is installed.
is_used() {
  debian bash -euc "
    sed -i 's/rig-07/rig-42/' $config
    install -d -o oxen-sync -g oxen-sync -m 700 ${state%/*}
    echo proved >$state
    install -D -m 600 /dev/null /etc/credstore/oxen-api-key
    install -D -m 600 /dev/null /etc/credstore/oxen-api-key-hub
    echo fs.inotify.max_user_watches = 54321 >/etc/sysctl.d/60-oxen-sync.conf
    install -D -m 644 /dev/null /etc/systemd/system/oxen-sync.service.d/override.conf
    systemctl --quiet enable oxen-sync"
}
nothing_of_it_is_lost() {
  grep -q 'name = "rig-42"' "$root$config" && equals state "$(<"$root$state")" proved &&
    [[ -e $root/etc/credstore/oxen-api-key ]] &&
    equals "what dpkg left beside the config" "$(ls "$root/etc/oxen-sync")" oxen-sync.toml
}

upgrades_without_a_question() {
  is_used || return
  debian dpkg -i /root/2.deb >"$scratch/told" 2>&1 || { cat "$scratch/told"; return 1; }
  holds status "$(status)" "-2" && nothing_of_it_is_lost &&
    equals is-enabled "$(debian systemctl is-enabled oxen-sync)" enabled &&
    { [[ $(<"$scratch/told") != *"not started"* ]] || { echo "it tells what is for new installations"; return 1; }; }
}

# Where a systemd runs, a service that runs gets the new program, and no other is started.
an_upgrade_restarts_only_what_runs() {
  pretend_systemd
  debian env SYSTEMD_LOG_LEVEL=debug dpkg -i /root/2.deb >"$scratch/told" 2>&1 || { cat "$scratch/told"; return 1; }
  # It only tries to: the kernel's limits cannot be written here. The administrator's number counts.
  holds dpkg "$(<"$scratch/told")" "/fs/inotify/max_user_watches' to '54321'" &&
    equals "what systemd was asked" "$(<"$root/run/asked")" "$(printf '%s\n' daemon-reload 'try-restart --no-block oxen-sync.service')"
}
a_removal_stops_the_service() {
  pretend_systemd
  debian dpkg -r oxen-sync &&
    equals "what systemd was asked" "$(<"$root/run/asked")" \
      "$(printf '%s\n' 'stop oxen-sync.service' '--quiet disable oxen-sync.service' daemon-reload)"
}
a_new_installation_starts_nothing() {
  pretend_systemd
  debian dpkg -i /root/1.deb && ! grep -v -e '^daemon-reload$' -e '^try-restart' "$root/run/asked"
}

is_removed() {
  readme remove && are_gone /usr/bin/oxen-sync /usr/lib/systemd/system/oxen-sync.service /usr/share/man/man1/oxen-sync.1.gz \
    /usr/lib/sysctl.d/60-oxen-sync.conf /etc/systemd/system/multi-user.target.wants/oxen-sync.service &&
    holds status "$(status)" "config-files" && nothing_of_it_is_lost
}

installs_again_as_it_was() {
  debian dpkg -i /root/1.deb >"$scratch/told" 2>&1 || { cat "$scratch/told"; return 1; }
  holds status "$(status)" "installed " && nothing_of_it_is_lost
}

purges_to_the_last_file() {
  readme purge || return
  equals "what is left" "$(find "$root" -xdev ! -path "$root/root/*" \( -iname '*oxen*' -o -user "${number:?}" \))" '' &&
    equals "what dpkg says of it" "$(grep -c '^Package: oxen-sync$' "$root/var/lib/dpkg/status" || true)" 0
}

# Folders may be granted to it: another user must not get its number.
the_user_stays() { equals "its number" "$(debian id -u oxen-sync)" "$number"; }

purges_what_was_never_used() {
  debian dpkg -i /root/1.deb && debian dpkg -P oxen-sync && are_gone /etc/oxen-sync /var/lib/oxen-sync
}

an_installation_by_hand_in_the_way_is_told() {
  : >"$root/usr/local/bin/oxen-sync"
  debian dpkg -i /root/1.deb >"$scratch/told" 2>&1 && holds dpkg "$(<"$scratch/told")" "/usr/local/bin/oxen-sync"
}

every_block_was_run() {
  local name
  while read -r name; do
    [[ " ${tried[*]} " == *" $name "* ]] || { echo "not run: $name"; return 1; }
  done < <(sed -n 's/^<!-- tried with the package: \(.*\) -->$/\1/p' "$source_dir/systemd/README.md")
}

# --- In this order --------------------------------------------------------------------------------------------------
promise "every file is in its place, and no other" everything_is_in_its_place
promise "the config is a conffile, and nothing else is" only_the_config_is_a_conffile
promise "it says name, version, what it needs and what it does" it_says_what_it_is
vital "README: it installs, and says what to do next" installs
promise "a new installation is neither enabled nor started" starts_nothing_by_itself
promise "the program runs, from /usr/bin" the_program_runs
promise "the config is that of the reference, and can be used" the_config_is_right
promise "the user is there, without a shell" the_user_is_there
promise "the unit is the one of the source" the_unit_is_the_one_of_the_source
promise "the unit is clean for systemd-analyze verify" the_unit_is_clean
promise "man pages, completions, copyright and changelog can be read" pages_and_completions_can_be_read
number=$(debian id -u oxen-sync || echo none)
promise "an upgrade asks nothing and keeps an edited config" upgrades_without_a_question
promise "where systemd runs: an upgrade restarts the service only if it runs" an_upgrade_restarts_only_what_runs
no_systemd
promise "README: a removal takes the program and leaves config, state and keys" is_removed
promise "it installs again, with the config as it was" installs_again_as_it_was
promise "where systemd runs: a removal stops the service and takes it out of the boot" a_removal_stops_the_service
promise "where systemd runs: an installation starts nothing" a_new_installation_starts_nothing
no_systemd
promise "README: a purge leaves no file, not even the user's" purges_to_the_last_file
promise "a purge leaves the user, so that its number is nobody else's" the_user_stays
promise "what was never used is purged as well" purges_what_was_never_used
promise "an installation by hand that is in the way is told" an_installation_by_hand_in_the_way_is_told
promise "README: every block for the package was run" every_block_was_run

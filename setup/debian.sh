#!/usr/bin/env bash
# Installs the Debian packages that are missing for the named groups: setup/debian.sh [python] [test] [image] [run] [go] [browser]
#
# Debian 12 has neither QEMU 10 nor Go 1.24. QEMU comes from its backports, Go from the packages of Debian 13 unpacked
# into the cache folder; both through lists of their own, so that the machine's apt sources stay as they are.
set -eu -o pipefail

GO_NEEDED=1.24.1
QEMU_NEEDED=10

# python: for the virtual environment. test: for the unit tests. image: to build the reference image. run: to boot it. go: to build a
# Go program. browser: to open the report. test and run also need QEMU_PACKAGES, and image and go need Go; of these two, a minimum
# version is needed.
PYTHON=(python3 python3-venv)
TEST=("${PYTHON[@]}" busybox cpio e2fsprogs fdisk lz4 mtools ovmf util-linux)
IMAGE=(
    bc binutils bison ca-certificates cpio dosfstools dpkg-dev e2fsprogs fakeroot fdisk flex gcc kmod libc6-dev libelf-dev
    libseccomp-dev libsqlite3-dev libssl-dev lz4 make mtools patch pkg-config rsync uuid-dev xz-utils zlib1g-dev
)
RUN=(e2fsprogs lz4 mtools ovmf util-linux)
BROWSER=("${PYTHON[@]}" chromium)
QEMU_PACKAGES=(qemu-system-x86 qemu-utils)

HOME=${HOME:-$({ getent passwd "$(id -u)" || true; } | cut -d: -f6)}
CACHE=${XDG_CACHE_HOME:-}
[[ $CACHE == /* ]] || CACHE=$HOME/.cache # A relative path counts as none (XDG Base Directory).
CACHE=$CACHE/kios-e2e
STATE=$CACHE/apt
LOG=$STATE/apt.log
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
CACHED_GO=$CACHE/go-1.24

say() { printf 'setup: %s\n' "$*"; }

fail() {
    say "$*" >&2
    exit 1
}

# The groups asked for.

packages=()
needs_qemu=no
needs_go=no
needs_lists=no
for group in "$@"; do
    case $group in
    python) packages+=("${PYTHON[@]}") ;;
    test) packages+=("${TEST[@]}") needs_qemu=yes ;;
    image) packages+=("${IMAGE[@]}") needs_go=yes needs_lists=yes ;;
    browser) packages+=("${BROWSER[@]}") ;;
    go) packages+=(ca-certificates patch) needs_go=yes ;;
    run) packages+=("${RUN[@]}") needs_qemu=yes ;;
    *) fail "there is no group $group; use: setup/debian.sh [python] [test] [image] [run] [go] [browser]" ;;
    esac
done
[ $# -gt 0 ] || fail "name at least one group: setup/debian.sh [python] [test] [image] [run] [go] [browser]"

# shellcheck source=/dev/null
release() { (. /etc/os-release 2>/dev/null && printf '%s' "${!1:-}") || true; }

suite=$(release VERSION_CODENAME)
if [ "$(release ID)" != debian ] || { [ "$suite" != bookworm ] && [ "$suite" != trixie ]; }; then
    [ $needs_qemu = no ] || packages+=("QEMU>=$QEMU_NEEDED" "${QEMU_PACKAGES[@]}")
    [ $needs_go = no ] || packages+=("Go>=$GO_NEEDED")
    system=$(release PRETTY_NAME)
    fail "this is ${system:-an unknown system}, not Debian 12 or 13. Install what these packages hold," \
        "then run make with SETUP=true: $(printf '%s\n' "${packages[@]}" | sort -u | tr '\n' ' ')"
fi

# Root, in whatever way is possible. If there is none, the commands are collected for an administrator.

for_administrator=()
root_by=

# Prints how this user gets root: directly, by sudo, or not at all.
root_way() {
    if [ "$(id -u)" = 0 ]; then
        echo direct
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
        echo sudo
    else
        echo none
    fi
}

# Runs a program with its output in the log; shows the log's end if it fails.
logged() {
    mkdir -p "$STATE"
    printf '$ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 || {
        tail -n 15 "$LOG" >&2
        fail "apt failed; its whole output is in $LOG"
    }
}

as_root() {
    [ -n "$root_by" ] || root_by=$(root_way)
    case $root_by in
    direct) logged env DEBIAN_FRONTEND=noninteractive "$@" ;;
    sudo) logged sudo env DEBIAN_FRONTEND=noninteractive "$@" ;;
    *) for_administrator+=("$*") ;;
    esac
}

updated=no
update() {
    [ $updated = no ] || return 0
    updated=yes
    as_root apt-get -o DPkg::Lock::Timeout=300 update
}

INSTALL=(install -y --no-install-recommends)

# Questions to apt and dpkg.

# Prints the installed version of each named package: "NAME VERSION".
installed() {
    dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$@" 2>/dev/null | sed -n 's/^installed //p' || true
}

# Prints the site from which the machine's own sources take a suite; nothing if there is none or apt has no lists yet.
# shellcheck disable=SC2016  # apt fills the fields in, not the shell
site_of() {
    apt-get indextargets --format '$(CODENAME) $(LABEL) $(SITE)' 'Created-By: Packages' |
        sed -n "s/^$1 Debian\( Backports\)\? //p" | sed -n 1p
}

# Sets DEBIAN_SITE to the site of Debian's main archive, which has all suites.
debian_site() {
    local site
    site=$(site_of "$suite")
    if [ -z "$site" ]; then
        update
        site=$(site_of "$suite")
    fi
    [ -n "$site" ] || [ ${#for_administrator[@]} -gt 0 ] || fail "apt has no source for Debian $suite; add one to /etc/apt/sources.list.d"
    DEBIAN_SITE=$site
}

# Installs QEMU on Debian 12 from backports, through lists of its own unless the machine's sources have backports.
install_backports() {
    local options=(-o DPkg::Lock::Timeout=300 -t bookworm-backports)
    if [ -z "$(site_of bookworm-backports)" ]; then
        debian_site
        [ -n "$DEBIAN_SITE" ] || return 0 # The administrator's apt-get update has to come first.
        mkdir -p "$STATE/lists/partial" "$STATE/lists/auxfiles" # Made here, or they would be root's.
        {
            [ ! -e /etc/apt/sources.list ] || cat /etc/apt/sources.list
            echo "deb [signed-by=$KEYRING] $DEBIAN_SITE bookworm-backports main"
        } >"$STATE/sources.list"
        options+=(-o "Dir::State::lists=$STATE/lists" -o "Dir::Etc::sourcelist=$STATE/sources.list")
        options+=(-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
        logged apt-get "${options[@]}" -o Debug::NoLocking=1 update
    fi
    as_root apt-get "${options[@]}" "${INSTALL[@]}" "$@"
}

# Go.

# Succeeds if a go command runs and is new enough.
go_is_new_enough() {
    local version
    version=$(cd / && GOTOOLCHAIN=local "$1" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p') || return 1
    [ -n "$version" ] && dpkg --compare-versions "$version" ge $GO_NEEDED
}

# Writes a folder's bin/go, which runs the Go tree at a path (relative to the folder, or absolute).
write_go_command() {
    mkdir -p "$1/bin"
    cat >"$1/bin/go" <<EOF
#!/bin/sh
# Made by setup/debian.sh.
folder=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")
export GOROOT="$2" GOTOOLCHAIN=local
exec "\$GOROOT/bin/go" "\$@"
EOF
    chmod 755 "$1/bin/go"
}

install_go() {
    local making options
    mkdir -p "$CACHE"
    making=$(mktemp -d "$CACHE/.go-1.24.XXXXXX")
    # shellcheck disable=SC2064  # expanded now: the variable is local
    trap "rm -rf '$making'" EXIT
    if [ "$suite" = trixie ]; then
        write_go_command "$making/go" /usr/lib/go-1.24
    else
        debian_site
        [ -n "$DEBIAN_SITE" ] || return 0
        say "unpacking Go 1.24 from Debian 13's packages into $CACHED_GO"
        mkdir -p "$making/lists/partial" "$making/archives/partial" "$making/go"
        echo "deb [signed-by=$KEYRING] $DEBIAN_SITE trixie main" >"$making/sources.list"
        options=(
            -o "Dir::State::lists=$making/lists" -o Dir::State::status=/dev/null -o "Dir::Cache::archives=$making/archives"
            -o "Dir::Etc::sourcelist=$making/sources.list" -o Dir::Etc::sourceparts=/dev/null
            -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Debug::NoLocking=1
            -o Acquire::Languages=none
        )
        logged apt-get "${options[@]}" update
        (cd "$making" && logged apt-get "${options[@]}" download golang-1.24-go golang-1.24-src)
        for package in "$making"/*.deb; do dpkg-deb -x "$package" "$making/go"; done
        # shellcheck disable=SC2016  # the script written there expands it
        write_go_command "$making/go" '$folder/usr/lib/go-1.24'
    fi
    go_is_new_enough "$making/go/bin/go" || fail "Debian's Go 1.24 does not run here, or is older than $GO_NEEDED"
    chmod 755 "$making/go"
    rm -rf "$CACHED_GO"
    mv -T "$making/go" "$CACHED_GO"
    rm -rf "$making"
}

# Find what is missing, and install it.

if [ $needs_go = yes ] && { go_is_new_enough go || go_is_new_enough "$CACHED_GO/bin/go"; }; then needs_go=no; fi
if [ $needs_go = yes ]; then
    if [ "$suite" = trixie ]; then
        packages+=(golang-1.24-go)
    elif [ ! -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ]; then
        packages+=(debian-archive-keyring/bookworm) # A version with the keys of Debian 13.
    fi
fi

here=$(installed "${packages[@]}" "${QEMU_PACKAGES[@]}")
missing=()
while read -r package; do
    case $'\n'$here in
    *$'\n'"$package "*) ;;
    *) missing+=("$package") ;;
    esac
done < <(printf '%s\n' "${packages[@]}" | sort -u)

old_qemu=()
if [ $needs_qemu = yes ]; then
    for package in "${QEMU_PACKAGES[@]}"; do
        version=$(printf '%s\n' "$here" | sed -n "s/^$package //p")
        # The epoch of Debian's QEMU packages is 1.
        dpkg --compare-versions "${version:-0}" ge "1:$QEMU_NEEDED" || old_qemu+=("$package")
    done
    if [ "$suite" = trixie ]; then
        missing+=("${old_qemu[@]}")
        old_qemu=()
    fi
fi

DEBIAN_SITE=
if [ ${#missing[@]} -gt 0 ]; then
    say "to install: ${missing[*]}"
    update
    as_root apt-get -o DPkg::Lock::Timeout=300 "${INSTALL[@]}" "${missing[@]}"
fi
if [ ${#old_qemu[@]} -gt 0 ]; then
    say "to install from Debian's backports, for QEMU $QEMU_NEEDED: ${old_qemu[*]}"
    install_backports "${old_qemu[@]}"
fi
if [ $needs_lists = yes ]; then debian_site; fi # The image is made from packages that apt has to know.
if [ ${#for_administrator[@]} -gt 0 ]; then
    commands=$(printf '%s && ' "${for_administrator[@]}")
    fail "this needs root, which sudo does not grant here. Have an administrator run this, then try again: ${commands% && }"
fi
if [ $needs_go = yes ]; then install_go; fi
say "$*: all there"

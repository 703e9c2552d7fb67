#!/usr/bin/env bash
# Unpacks into the cache folder a QEMU that can save and restore a node's machine, and its firmware: setup/qemu.sh
#
# QEMU can migrate an NVMe disk since 11.1, which neither Debian 12 nor 13 has. So the packages of Debian unstable are
# unpacked, not installed, and run with the C library that they bring. Without them everything works, but slower; so any
# failure here ends with one line and status 0.
set -eu -o pipefail
umask 022

PACKAGES=(qemu-system-x86 qemu-utils ovmf)
PROGRAMS=(qemu-system-x86_64 qemu-img qemu-io)

HOME=${HOME:-$({ getent passwd "$(id -u)" || true; } | cut -d: -f6)}
CACHE=${XDG_CACHE_HOME:-}
[[ $CACHE == /* ]] || CACHE=$HOME/.cache # A relative path counts as none (XDG Base Directory).
CACHE=$CACHE/kios-e2e
TARGET=$CACHE/qemu # A link to qemu-VERSION. To get a newer one, remove it.
LOG=$CACHE/apt/qemu.log
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
LIBRARIES=usr/lib/x86_64-linux-gnu
LOADER=$LIBRARIES/ld-linux-x86-64.so.2

say() { printf 'setup: %s\n' "$*"; }

works() { "$1/bin/qemu-system-x86_64" --version && "$1/bin/qemu-img" --version; } >/dev/null 2>&1

if works "$TARGET"; then exit 0; fi

making=
why="see $LOG"

# Nothing half made stays, however this ends. Only a signal makes the set-up fail.
finish() {
    local status=$?
    [ -z "$making" ] || rm -rf "$making" || true
    [ $status != 0 ] || return 0
    [ $status -lt 128 ] || exit $status
    say "QEMU from Debian unstable cannot be unpacked ($why): the system's QEMU is used, and nodes are booted cold"
    exit 0
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
    why=$*
    exit 1
}

[ "$(uname -m)" = x86_64 ] || give_up "it is only for x86_64"
command -v apt-get >/dev/null && [ -e $KEYRING ] || give_up "this is not Debian"
if ! { mkdir -p "$CACHE/apt" && : >"$LOG"; } 2>/dev/null; then give_up "$CACHE cannot be written to"; fi

# One at a time: the second one finds what the first one unpacked.
exec 9>"$CACHE/apt/qemu.lock"
flock 9
if works "$TARGET"; then exit 0; fi
rm -rf "$CACHE"/.qemu.* # Left by one that was killed.
making=$(mktemp -d "$CACHE/.qemu.XXXXXX" 2>>"$LOG")
mkdir -p "$making"/{lists,archives}/partial "$making"/{unpacked,qemu/bin,qemu/root,qemu/share/qemu/firmware} 2>>"$LOG"

# Runs a program with its output in the log; it does not inherit the lock.
logged() {
    printf '$ %s\n' "$*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 9>&-
}

# apt with a state of its own in which nothing is installed, so that it fetches every dependency.
apt=(
    apt-get -q -y
    -o "Dir::State::lists=$making/lists" -o Dir::State::status=/dev/null -o "Dir::Cache::archives=$making/archives"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Debug::NoLocking=1
    -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20
)
unstable=(
    -o "Dir::Etc::sourcelist=$making/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Default-Release=
)

# Prints the site of Debian's archive in the machine's own sources; nothing if apt has no lists.
# shellcheck disable=SC2016  # apt fills the fields in, not the shell
debian_site() {
    "$@" indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' 2>>"$LOG" |
        sed -n 's/^Debian \([^ ]*\)$/\1/p' | sed -n 1p
}

site=$(debian_site apt-get)
if [ -z "$site" ]; then
    logged "${apt[@]}" update || true
    site=$(debian_site "${apt[@]}")
fi
[ -n "$site" ] || give_up "apt has no source for Debian"

say "unpacking QEMU from Debian unstable's packages into $TARGET"
echo "deb [arch=amd64 signed-by=$KEYRING target=Packages] $site unstable main" >"$making/sources.list"
logged "${apt[@]}" "${unstable[@]}" -o APT::Update::Error-Mode=any update
logged "${apt[@]}" "${unstable[@]}" --no-install-recommends --download-only install "${PACKAGES[@]}"
for package in "$making"/archives/*.deb; do
    logged dpkg-deb -x "$package" "$making/unpacked"
    rm "$package"
done

# Only what a node's machine uses is kept: a third of it.
cd "$making/unpacked"
used=(
    "$LOADER" "${PROGRAMS[@]/#/usr/bin/}" "$LIBRARIES/qemu" usr/share/OVMF/OVMF_{CODE,VARS}_4M.fd
    usr/share/seabios usr/share/qemu/{*.rom,keymaps,kvmvapic.bin,{linuxboot,multiboot}_dma.bin,pvh.bin}
)
for program in "${PROGRAMS[@]/#/usr/bin/}" "$LIBRARIES"/qemu/*.so; do
    "$LOADER" --library-path $LIBRARIES --list "$program" >"$making/list" 2>>"$LOG"
    if grep 'not found' "$making/list" >>"$LOG"; then exit 1; fi
    while read -r library; do used+=("$library"); done < <(sed -n "s|.*=> \($LIBRARIES/[^ ]*\) .*|\1|p" "$making/list")
done
printf '%s\0' "${used[@]}" | sort -zu | logged xargs -0 cp -r --preserve=mode,timestamps --parents -t "$making/qemu/root" -L
cd "$making/qemu"

for program in "${PROGRAMS[@]}"; do
    folders=
    # shellcheck disable=SC2016  # the script written there expands it
    [ "$program" != qemu-system-x86_64 ] || folders=' -L "$root/usr/share/qemu" -L "$root/usr/share/seabios"'
    cat >"bin/$program" <<END
#!/bin/sh
# Made by setup/qemu.sh.
self=\$(readlink -f "\$0") && root=\${self%/bin/*}/root
export QEMU_MODULE_DIR="\$root/$LIBRARIES/qemu"
exec "\$root/$LOADER" --library-path "\$root/$LIBRARIES" --argv0 "\$0" "\$root/usr/bin/$program"$folders "\$@"
END
    chmod 755 "bin/$program"
done

# The descriptors (QEMU's docs/interop/firmware.json) of the firmware images that were unpacked.
place=$(printf '%s' "$TARGET/root" | sed 's/[\\&|]/\\&/g')
for descriptor in "$making"/unpacked/usr/share/qemu/firmware/*.json; do
    grep -q '"x86_64"' "$descriptor" || continue
    while read -r image; do [ -e "root$image" ] || continue 2; done \
        < <(sed -n 's/.*"filename": *"\([^"]*\)".*/\1/p' "$descriptor")
    sed "s|\(\"filename\": *\"\)/|\1$place/|" "$descriptor" >"share/qemu/firmware/${descriptor##*/}"
done
compgen -G 'share/qemu/firmware/*.json' >/dev/null

why="it does not run here"
works "$making/qemu"
why="see $LOG"
version=$(bin/qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p')
cd "$CACHE"
ln -s "qemu-$version" "$making/link"
rm -rf "$CACHE"/qemu-[0-9]* "$CACHE/qemu" # None of these works, or this point would not be reached.
mv -T "$making/qemu" "$CACHE/qemu-$version"
mv -T "$making/link" "$TARGET"
say "QEMU $version from Debian unstable: $(du -sh "$CACHE/qemu-$version" | cut -f1). For a newer one, remove $TARGET and run this again"

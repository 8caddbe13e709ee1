#!/usr/bin/env bash
# Install what the named parts need from Debian's packages, if it is missing:
#   deploy/debian-packages.sh python-venv postgresql redis-server chromium
# Says first what it will do. Without the right to install it names the packages and fails.
set -euo pipefail

has_part() {
    case "$1" in
        python-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        postgresql)
            local binary
            for binary in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres; do
                [ -x "$binary" ] && return 0
            done
            command -v postgres >/dev/null ;;
        redis-server) command -v redis-server >/dev/null ;;
        chromium) command -v chromium >/dev/null || command -v google-chrome >/dev/null ;;
        *) echo "unknown part: $1" >&2; exit 2 ;;
    esac
}

packages=()
for part in "$@"; do
    if ! has_part "$part"; then
        case "$part" in
            python-venv) packages+=(python3-venv) ;;
            *) packages+=("$part") ;;
        esac
    fi
done
[ ${#packages[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing here, and this is no Debian-like system: please install ${packages[*]}." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        echo "Missing here: please have an administrator run: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi

echo "Installing from Debian's packages: ${packages[*]} (no service is started, no cluster is created)" >&2

# The packages would start their own servers and create a cluster of their own; ours are private ones.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
clusters=/etc/postgresql-common/createcluster.conf
if [ ! -e "$clusters" ]; then
    "${as_root[@]}" mkdir -p "${clusters%/*}"
    echo 'create_main_cluster = false' | "${as_root[@]}" tee "$clusters" >/dev/null
fi

quiet_install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${packages[@]}" \
        </dev/null >&2
}
# A fresh image has no package lists, or stale ones.
quiet_install || { "${as_root[@]}" apt-get update -qq </dev/null >&2 && quiet_install; }

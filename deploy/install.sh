#!/bin/sh
# Installs or upgrades the service from this checkout, or goes back to the release before.
#
#   deploy/install.sh             install, or upgrade and restart what runs
#   deploy/install.sh rollback    the release before becomes the current one again
#
# Each release has a folder of its own under /opt/oms-trio/releases, and `current` points to one of
# them. It holds the versions of deploy/requirements.lock, checked by hash: nothing is resolved
# here, so every machine runs what was tested. Settings and state are never touched. ROOT=/some/folder installs below that folder and
# starts nothing, to look at what would come.
set -eu

ROOT=${ROOT:-}
KEEP=3
opt=$ROOT/opt/oms-trio
etc=$ROOT/etc/oms-trio
units=$ROOT/etc/systemd/system
source=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s\n' "$*"; }

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

has_systemd() { [ -z "$ROOT" ] && [ -d /run/systemd/system ]; }

point_to() {
    # A rename is atomic: at no moment is there no current release.
    ln -sfn "$1" "$opt/current.new"
    mv -T "$opt/current.new" "$opt/current"
}

restart() {
    has_systemd || return 0
    systemctl daemon-reload
    systemctl try-restart oms-trio.service 'oms-trio@*.service'
}

rollback() {
    before=$(cat "$opt/previous" 2>/dev/null) || fail "there is no release to go back to"
    [ -d "$opt/$before" ] || fail "$opt/$before is gone"
    now=$(readlink "$opt/current")
    point_to "$before"
    printf '%s\n' "$now" >"$opt/previous"
    restart
    say "the current release is $before again"
}

need_python() {
    if ! python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v apt-get >/dev/null || fail "python3 (3.11 or newer) with venv is needed"
        apt-get -q update
        DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends python3-venv
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; python3 here is $(python3 --version)"
}

install_package() {
    # The wheel is built by an environment of its own: the build tools are not part of a release.
    python3 -m venv "$1/build"
    in_venv "$1/build" install --require-hashes -r "$source/deploy/build.lock"
    in_venv "$1/build" wheel --no-deps --no-build-isolation --wheel-dir "$1/build" "$source"
    in_venv "$1/venv" install --require-hashes -r "$source/deploy/requirements.lock"
    in_venv "$1/venv" install --no-deps --no-index "$1"/build/*.whl
    in_venv "$1/venv" check
    rm -r "$1/build"
}

in_venv() {
    venv=$1
    shift
    "$venv/bin/pip" --disable-pip-version-check --no-input -q "$@"
}

install_release() {
    version=$(sed -n 's/^__version__.*"\(.*\)"/\1/p' "$source/oms_trio/version.py")
    release=releases/$version-$(date -u +%Y%m%d%H%M%S)
    say "installing $release"
    mkdir -p "$opt/$release"
    python3 -m venv "$opt/$release/venv"
    install_package "$opt/$release"
    cp -r "$source/docs" "$opt/$release/docs"
    if [ -L "$opt/current" ]; then
        readlink "$opt/current" >"$opt/previous"
    fi
    point_to "$release"
}

forget_old_releases() {
    previous=$(cat "$opt/previous" 2>/dev/null || true)
    ls -1d "$opt"/releases/* | sort | head -n -$KEEP | while read -r old; do
        case "releases/${old##*/}" in
            "$(readlink "$opt/current")" | "$previous") ;;
            *) rm -rf "$old" ;;
        esac
    done
}

install_settings() {
    install -d -m 0755 "$etc"
    install -d -m 0700 "$etc/credentials"
    [ -e "$etc/oms-trio.env" ] ||
        install -m 0640 "$source/deploy/oms-trio.env.example" "$etc/oms-trio.env"
}

install_units() {
    install -d "$units"
    for unit in oms-trio.service oms-trio@.service; do
        install -m 0644 "$source/deploy/$unit" "$units/$unit"
        if has_systemd && [ "$(systemctl --version | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')" -ge 254 ]; then
            install -D -m 0644 "$source/deploy/back-off.conf" "$units/$unit.d/back-off.conf"
        fi
    done
}

next_steps() {
    cat <<END

Installed. For the first start:
  1. put each secret into a file in $etc/credentials, readable by root alone:
     okx_api_key okx_secret_key okx_passphrase rabbitmq_pass
  2. edit $etc/oms-trio.env
  3. systemctl enable --now oms-trio
  4. /opt/oms-trio/current/venv/bin/oms-trio status --state-dir /var/lib/oms-trio
END
}

[ -n "$ROOT" ] || [ "$(id -u)" = 0 ] || fail "run it as root"
case "${1:-install}" in
    install)
        need_python
        install_release
        forget_old_releases
        install_settings
        install_units
        restart
        next_steps
        ;;
    rollback) rollback ;;
    *) fail "usage: install.sh [rollback]" ;;
esac

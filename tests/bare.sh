#!/bin/sh
# Runs the tests where next to nothing is installed: no git and no git checkout, no servers, only what a minimal
# system has in PATH; the C locale, a terminal of 60 columns, a time zone of its own; and, as root, without
# /dev/shm and with a checkout that cannot be written to.
#
# Without arguments it runs all the environments; arguments choose: bare, shm, readonly.
set -eu
cd "$(dirname "$0")/.."
ROOT=$PWD
PYTHON=$("${PYTHON:-python3}" -c "import sys; print(sys.executable)")
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

copy() { # of the files alone, as an archive has them
    mkdir -p "$1"
    tar -C "$ROOT" -cf - --exclude='./.*' --exclude=./build --exclude=__pycache__ . | tar -C "$1" -xf -
    cp -r "$ROOT/.ci" "$ROOT/.gitignore" "$1"
}

programs() { # a PATH with what a minimal system has
    mkdir -p "$1"
    for name in sh env make cat cp rm mkdir mktemp touch test echo printf head tail sed sleep uname dirname basename \
        ls ln tr sort id true false kill nproc; do
        path=$(command -v "$name") && [ -x "$path" ] && ln -sf "$path" "$1/$name"
    done
    for name in sh env make sleep true false kill; do
        [ -e "$1/$name" ] || { [ -x "/bin/$name" ] && ln -sf "/bin/$name" "$1/$name"; } || true
    done
    ln -sf "$PYTHON" "$1/python3"
}

run() { # FOLDER, then the words for make
    folder=$1
    shift
    kept=$(env | sed -n 's/^\(PIP_[A-Z_]*\|[A-Z_]*_CA_BUNDLE\|SSL_CERT_[A-Z]*\|https*_proxy\|HTTPS*_PROXY\)=\(.*\)$/\1=\2/p')
    (cd "$folder" && IFS='
' && env -i HOME="$WORK/home" TMPDIR="$WORK/tmp" PATH="$WORK/bin" LC_ALL=C COLUMNS=60 TZ=Asia/Kathmandu TERM=dumb \
        $kept make --no-print-directory PYTHON="$PYTHON" VENV="$WORK/venv" "$@")
}

mkdir -p "$WORK/home" "$WORK/tmp"
programs "$WORK/bin"
copy "$WORK/checkout"
for what in ${*:-bare shm readonly}; do
    case $what in
    bare)
        echo "== no git, no servers, the C locale, 60 columns"
        run "$WORK/checkout" test
        ;;
    shm)
        [ "$(id -u)" -eq 0 ] || { echo "== without /dev/shm: only as root, left out"; continue; }
        echo "== without /dev/shm"
        export -p >"$WORK/exports"
        unshare --mount sh -c "umount /dev/shm 2>/dev/null; mount -t tmpfs -o ro none /dev/shm 2>/dev/null; exec env -i \
            HOME='$WORK/home' TMPDIR='$WORK/tmp' PATH='$WORK/bin' LC_ALL=C make -C '$WORK/checkout' --no-print-directory \
            PYTHON='$PYTHON' VENV='$WORK/venv' quick"
        ;;
    readonly)
        [ "$(id -u)" -eq 0 ] || { echo "== a checkout that cannot be written to: only as root, left out"; continue; }
        echo "== a checkout that cannot be written to"
        unshare --mount sh -c "mount --bind '$WORK/checkout' '$WORK/checkout' && mount -o remount,bind,ro '$WORK/checkout' && \
            exec env -i HOME='$WORK/home' TMPDIR='$WORK/tmp' PATH='$WORK/bin' LC_ALL=C COVERAGE_FILE='$WORK/coverage' \
            make -C '$WORK/checkout' --no-print-directory PYTHON='$PYTHON' VENV='$WORK/venv' quick"
        ;;
    *)
        echo "$what is not one of bare, shm, readonly" >&2
        exit 2
        ;;
    esac
done

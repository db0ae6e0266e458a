#!/bin/sh
# Runs the tests on several versions of Python, each in an environment of its own (.venv-matrix/VERSION).
#
# Without arguments: on every version from 3.11 on that is in PATH, the system's own in /usr/bin, and what pyenv
# has. Prints a line per version, and fails if one failed.
set -u
cd "$(dirname "$0")/.." || exit 1
OLD_ENOUGH='import sys; sys.exit(sys.version_info < (3, 11))'

found() {
    for python in python3.11 python3.12 python3.13 python3.14 python3.15 /usr/bin/python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3; do
        path=$(command -v "$python") && "$path" -c "$OLD_ENOUGH" 2>/dev/null && echo "$path"
    done
}

[ $# -gt 0 ] || set -- $(found)
[ $# -gt 0 ] || { echo "no Python 3.11 or newer was found; name one: $0 /path/to/python3" >&2; exit 1; }
failed=
seen=
summary=
for python; do
    version=$("$python" -c 'import platform; print(platform.python_version())') || exit 1
    case " $seen " in *" $version "*) continue ;; esac
    seen="$seen $version"
    echo "== Python $version ($python)"
    if make --no-print-directory VENV=".venv-matrix/$version" PYTHON="$python" test; then
        summary="$summary
$version passed"
    else
        summary="$summary
$version FAILED"
        failed=1
    fi
done
echo "$summary"
[ -z "$failed" ]

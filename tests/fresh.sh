#!/bin/sh
# Simulates every scenario from fresh seeds for some seconds, and says what to make of one that fails.
#
# It is kept in any case (kept_seeds.jsonl), and run once more on the commit before. If it fails there as well, it is
# an older bug: that is the last thing said, and does not stop the change. If it holds there, the change is the cause:
# the exit status is 1. Without a commit before (a copy without history) nobody can say, and the seed is told.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-90}
bin=$PWD/${VENV:-.venv}/bin
kept=tests/windlass/kept_seeds.jsonl
work=$(mktemp -d) || exit 1
trap 'git worktree remove --force "$work/before" 2>/dev/null; rm -rf "$work"' EXIT

"$bin/windlass" sim all --for "$seconds" --jobs 2 --kept "$work/found" && exit 0
[ -s "$work/found" ] || exit 1 # it did not come so far
cat "$work/found" >>"$kept"
echo "A FRESH SEED HAS FAILED. Its line is added to $kept, a test from now on: commit it with what mends it."
if ! git worktree add --quiet --detach "$work/before" HEAD~1; then
    echo "There is no commit before to try it on: LOOK AT IT, this change may be the cause."
    exit 0
fi
while read -r line; do
    echo "$line" >"$work/before/$kept"
    if (cd "$work/before" && PYTHONPATH=$PWD "$bin/python" -m pytest --quiet tests/windlass/test_kept_seeds.py) \
        >"$work/told" 2>&1; then
        echo "It holds on the commit before: $line"
        echo "This change is the cause, or has led the same seed to another place, where the bug was before."
        exit 1
    fi
    tail -n 3 "$work/told"
done <"$work/found"
echo "It fails on the commit before as well: an OLDER BUG, which this change is not stopped for."

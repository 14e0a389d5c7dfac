#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every check, in every environment that scripts/setup.sh made; the backend's summary comes last.
# A time limit on each session turns a hang into a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE  # and bytecode is kept: some 250 processes load the same modules
BLENDER_USER_RESOURCES=$(mktemp -d)
logs=$(mktemp -d)
export BLENDER_USER_RESOURCES
export COVERAGE_FILE="$logs/coverage"
trap 'rm -rf "$BLENDER_USER_RESOURCES" "$logs"' EXIT
declare -A sessions

say() { printf '\n== %s\n' "$*"; }

say "ruff"
.venv/backend/bin/ruff check .
.venv/backend/bin/ruff format --check --quiet .
say "mypy"
scripts/types.sh
say "the extension's zips"  # also fetches the wheels once, before two sessions want them
.venv/backend/bin/python install_addon.py --zip-only
for environment in .venv/blender-*/; do  # at the same time: each waits a lot for its server
    [ -f "$environment/.setup-stamp" ] || continue
    name=$(basename "$environment")
    (PYTHONPATH=shared:addon timeout -k 30 900 "$environment/bin/python" -m pytest -q \
        tests/addon tests/shared > "$logs/$name.log" 2>&1) &
    sessions[$!]=$name
done
failed=0
for session in "${!sessions[@]}"; do
    wait "$session" || failed=1
    say "tests/addon and tests/shared in .venv/${sessions[$session]}"
    cat "$logs/${sessions[$session]}.log"
done
[ "$failed" = 0 ] || exit 1
say "tests/system, tests/backend and tests/shared in .venv/backend"
# Two processes of one thread each finish sooner than one process of two threads. The whole jobs of
# tests/system begin first, so that neither process is left alone with one at the end.
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 timeout -k 30 2400 .venv/backend/bin/python -m pytest -q \
    -n 2 --dist loadfile --no-loadscope-reorder --durations=15 --cov --cov-report= \
    tests/system tests/backend tests/shared
say "coverage by this session: $(.venv/backend/bin/coverage report --format=total) % of the lines"

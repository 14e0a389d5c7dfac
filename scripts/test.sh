#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every check, in every environment that scripts/setup.sh made. A time limit on each session turns a
# hang into a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE  # and bytecode is kept: some 250 processes load the same modules
BLENDER_USER_RESOURCES=$(mktemp -d)
logs=$(mktemp -d)
log="$logs/beside"
export BLENDER_USER_RESOURCES
export COVERAGE_FILE="$logs/coverage"
trap 'rm -rf "$BLENDER_USER_RESOURCES" "$logs"' EXIT

say() { printf '\n== %s\n' "$*"; }

say "ruff"
.venv/backend/bin/ruff check .
.venv/backend/bin/ruff format --check --quiet .
say "the extension's zips"  # also fetches the wheels once, before two sessions want them
.venv/backend/bin/python install_addon.py --zip-only

# Beside the backend's session, which keeps two processes busy, and one after the other.
beside() {
    local environment
    say "mypy"
    scripts/types.sh || return 1
    for environment in .venv/blender-*/; do
        [ -f "$environment/.setup-stamp" ] || continue
        say "tests/addon and tests/shared in $environment"
        PYTHONPATH=shared:addon timeout -k 30 1500 "$environment/bin/python" -m pytest -q \
            tests/addon tests/shared || return 1
    done
}
beside > "$log" 2>&1 &
others=$!

say "tests/system, tests/backend and tests/shared in .venv/backend"
# Two processes of one thread each finish sooner than one process of two threads. The whole jobs of
# tests/system begin first, so that neither process is left alone with one at the end.
backend=0
OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 timeout -k 30 2400 .venv/backend/bin/python -m pytest -q \
    -n 2 --dist loadfile --no-loadscope-reorder --durations=15 --cov --cov-report= \
    tests/system tests/backend tests/shared || backend=$?
failed=0
wait "$others" || failed=1
cat "$log"
say "coverage by the backend's session: \
$(.venv/backend/bin/coverage report --format=total) % of the lines"
[ "$backend" = 0 ] && [ "$failed" = 0 ]

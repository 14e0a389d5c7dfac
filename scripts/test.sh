#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every check, in every environment that scripts/setup.sh made; the backend's summary comes last.
# A time limit on each session turns a hang into a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=1
BLENDER_USER_RESOURCES=$(mktemp -d)
export BLENDER_USER_RESOURCES
trap 'rm -rf "$BLENDER_USER_RESOURCES"' EXIT

say() { printf '\n== %s\n' "$*"; }

say "ruff"
.venv/backend/bin/ruff check .
for environment in .venv/blender-*/; do
    [ -f "$environment/.setup-stamp" ] || continue
    say "tests/addon and tests/shared in $environment"
    PYTHONPATH=shared:addon timeout -k 30 900 "$environment/bin/python" -m pytest -q tests/addon tests/shared
done
say "tests/shared, tests/backend and tests/system in .venv/backend"
timeout -k 30 2400 .venv/backend/bin/python -m pytest -q --durations=15 tests/shared tests/backend tests/system

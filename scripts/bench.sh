#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every benchmark, each in the environment it belongs to.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE
BLENDER_USER_RESOURCES=$(mktemp -d)
export BLENDER_USER_RESOURCES
trap 'rm -rf "$BLENDER_USER_RESOURCES"' EXIT
for name in rasterise ply people pipeline service; do
    echo "== $name"
    .venv/backend/bin/python "benchmarks/$name.py"
done
for environment in .venv/blender-*/; do
    [ -f "$environment/.setup-stamp" ] || continue
    echo "== blender_import in $environment"
    PYTHONPATH=shared:addon "$environment/bin/python" benchmarks/blender_import.py
done

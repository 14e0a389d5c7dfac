#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mypy on all but the tests, in one run: strictly on shared, core and pipeline, else at its default
# level (settings and their reasons in pyproject.toml). About 30 s of processor time without a cache.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/backend/bin/mypy shared/crowdgaussian_shared backend/crowdgaussian \
    addon/crowdgaussian_addon install_addon.py scripts benchmarks "$@"

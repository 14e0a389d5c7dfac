#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mypy on the parts that are strictly typed: shared, core and pipeline (settings in pyproject.toml).
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/backend/bin/mypy --follow-imports=silent shared/crowdgaussian_shared \
    backend/crowdgaussian/core backend/crowdgaussian/pipeline

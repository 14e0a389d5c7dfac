#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Property tests with examples drawn anew, in every environment that scripts/setup.sh made.
#
#   scripts/fuzz.sh        a seed of its own
#   scripts/fuzz.sh 1234   the draws of that seed again
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-$RANDOM$RANDOM}
export HYPOTHESIS_PROFILE=fuzz OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=1
failed=0
for environment in .venv/*/; do
    [ -f "$environment/.setup-stamp" ] && [ -x "$environment/bin/python" ] || continue
    printf '\n== property tests in %s, seed %s\n' "$environment" "$seed"
    PYTHONPATH=shared "$environment/bin/python" -m pytest -q -m hypothesis \
        --hypothesis-seed="$seed" tests/shared || failed=1
done
[ "$failed" = 0 ] || echo "The same draws again: make fuzz SEED=$seed"
exit "$failed"

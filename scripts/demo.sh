#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on one photo: scene folder, report, .blend file and previews.
#   scripts/demo.sh [PHOTO [OUT]]
set -euo pipefail
photo=${1:-$(dirname "$0")/../backend/crowdgaussian/synthetic/sample_data/sample.jpg}
name=$(basename "${photo%.*}")
out=${2:-out/$name}
command=$(dirname "$0")/../.venv/backend/bin/crowdgaussian
"$command" reconstruct "$photo" -o "$out"
"$command" inspect "$out"
"$command" blend "$out"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A backend for the add-on's tests: the real service, with stand-in stages that take a moment.
#   CROWDGAUSSIAN_BACKEND=python  the backend's Python
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH=$here/../.. exec "$CROWDGAUSSIAN_BACKEND" "$@" --pipeline _support.service_pipeline:run

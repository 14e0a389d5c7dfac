#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A backend for the add-on's tests: the real service, with stand-in stages that take a moment.
#   CROWDGAUSSIAN_BACKEND=python  the backend's Python
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH=$here/../backend exec "$CROWDGAUSSIAN_BACKEND" "$@" --pipeline service_pipeline:run

# SPDX-License-Identifier: Apache-2.0
"""The steps of scripts/gpu_check.py."""

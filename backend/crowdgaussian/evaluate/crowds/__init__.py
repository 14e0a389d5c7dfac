# SPDX-License-Identifier: Apache-2.0
"""Whole crowds rebuilt from one photo each, against the truth."""

# SPDX-License-Identifier: Apache-2.0
"""Motions: reading, retargeting, feet, time."""

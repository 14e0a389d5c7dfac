# SPDX-License-Identifier: Apache-2.0
"""Measuring results against the truth, as in the paper's Tables 1 and 2."""

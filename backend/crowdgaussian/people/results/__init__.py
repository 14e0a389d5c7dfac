# SPDX-License-Identifier: Apache-2.0
"""People that other programs found: readers for their files, and their bodies as ours."""

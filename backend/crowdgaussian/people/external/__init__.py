# SPDX-License-Identifier: Apache-2.0
"""Bodies that other programs found."""

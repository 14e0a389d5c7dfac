# SPDX-License-Identifier: Apache-2.0
"""Masks by SAM, SAM 2.1 and SAM 3, prompted with the posed bodies."""

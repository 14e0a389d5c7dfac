# SPDX-License-Identifier: Apache-2.0
"""The floor that a crowd shares, and who stands on it."""

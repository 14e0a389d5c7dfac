# SPDX-License-Identifier: Apache-2.0
"""The refiners' networks: the small one that ships, and one-step SD-Turbo."""

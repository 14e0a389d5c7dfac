# SPDX-License-Identifier: Apache-2.0
"""How the pictures of docs/guide.md are made."""

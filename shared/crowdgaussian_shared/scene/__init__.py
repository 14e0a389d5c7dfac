# SPDX-License-Identifier: Apache-2.0
"""The scene folder: its files, its scene.json, its corrections."""

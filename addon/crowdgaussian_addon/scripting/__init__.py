# SPDX-License-Identifier: GPL-3.0-or-later
"""What scripts use: batches and a demonstration pose."""

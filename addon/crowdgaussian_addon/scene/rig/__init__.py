# SPDX-License-Identifier: GPL-3.0-or-later
"""The armature on SMPL-X joints, its IK and its body."""

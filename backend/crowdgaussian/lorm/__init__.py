# SPDX-License-Identifier: Apache-2.0
"""LORM: the occlusion-robust human model, on the published LHM checkpoints (paper, section 3.2)."""

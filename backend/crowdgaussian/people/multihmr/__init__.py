# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR: SMPL-X bodies straight from the photo."""

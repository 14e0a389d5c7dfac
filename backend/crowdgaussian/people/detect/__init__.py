# SPDX-License-Identifier: Apache-2.0
"""People and their landmarks in the picture: search, ROI, test-time augmentation, NMS."""

# SPDX-License-Identifier: Apache-2.0
"""RT-DETR and ViTPose: boxes and COCO keypoints."""

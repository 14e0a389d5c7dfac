# SPDX-License-Identifier: Apache-2.0
"""The main job, as in the paper's Figure 2, and everything around it."""

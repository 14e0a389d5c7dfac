# SPDX-License-Identifier: Apache-2.0
"""Views of clusters, and the way of their pixels back into the Gaussians."""

# SPDX-License-Identifier: Apache-2.0
"""CrowdRefiner: one network step from a coarse view to a clean one, and back into the Gaussians."""

# SPDX-License-Identifier: Apache-2.0
"""`crowdgaussian serve`: a broker that never computes, and the workers that do."""

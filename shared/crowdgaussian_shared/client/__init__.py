# SPDX-License-Identifier: Apache-2.0
"""The client of `crowdgaussian serve`; it needs pyzmq."""

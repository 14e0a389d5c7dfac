# SPDX-License-Identifier: Apache-2.0
"""The command `crowdgaussian`: one module a verb."""

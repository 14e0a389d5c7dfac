# SPDX-License-Identifier: Apache-2.0
"""Many photos, a scene folder each: on this machine, in shards, or on a Ray cluster."""

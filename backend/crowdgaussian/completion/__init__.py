# SPDX-License-Identifier: Apache-2.0
"""The open completion: a small network that copies what a photo shows to where it shows nothing."""

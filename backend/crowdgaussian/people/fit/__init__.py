# SPDX-License-Identifier: Apache-2.0
"""The body model fitted to landmarks: targets, lifting, objective, schedules."""

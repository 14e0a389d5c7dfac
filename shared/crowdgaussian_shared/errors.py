# SPDX-License-Identifier: Apache-2.0
"""The errors a user can cause: one sentence that says what is wrong and what to do."""


class CrowdGaussianError(Exception):
    """A user's mistake or a limit of the world, told in one sentence without a traceback."""


class Cancelled(Exception):
    """Raised by a progress callback to stop the work at the next safe point."""

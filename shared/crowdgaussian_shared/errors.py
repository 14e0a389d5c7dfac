# SPDX-License-Identifier: Apache-2.0
"""The errors a user can cause: one sentence that says what is wrong and what to do.

* CrowdGaussianError
  · InputError
  · MissingFileError
  · DamagedFileError
  · SettingError
  · ResourceError
    - DiskFullError
    - OutOfMemoryError
    - BusyError
  · RemoteError
    + protocol.wire.ProtocolError
* Cancelled
"""

import errno

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class CrowdGaussianError(Exception):
    """A user's mistake or a limit of the world, told in one sentence without a traceback.

    Catch it for all of them; what is raised is always one of its branches.
    """


class InputError(CrowdGaussianError):
    """What was given cannot be used: a photo, a selection, a name, an array of another shape."""


class MissingFileError(CrowdGaussianError):
    """A file, folder, program or package that is needed is not there."""


class DamagedFileError(CrowdGaussianError):
    """A file does not hold what its kind must: cut off, out of range, of another version."""


class SettingError(CrowdGaussianError):
    """A setting, an option or an address has a value that is impossible, or does not exist."""


class ResourceError(CrowdGaussianError):
    """The machine refuses: a folder that cannot be written, a port, a program that fails."""


class DiskFullError(ResourceError):
    """There is no room left on the disk, or within the user's quota."""


class OutOfMemoryError(ResourceError):
    """The work does not fit into the memory of the computer or of its GPU."""


class BusyError(ResourceError):
    """Another program is at work in the same folder."""


class RemoteError(CrowdGaussianError):
    """The other side of a connection refused, failed, fell silent or sent what cannot be."""


class Cancelled(Exception):
    """Raised by a progress callback to stop the work at the next safe point."""


def is_full(error: BaseException) -> bool:
    """Whether the system says that a disk, a quota or a file has no room left."""
    return isinstance(error, OSError) and error.errno in _FULL


def disk_error(error: BaseException, sentence: str) -> ResourceError:
    """The error to raise when writing failed.

    Args:
        error: what the system or a library raised.
        sentence: what the user is told.
    """
    return DiskFullError(sentence) if is_full(error) else ResourceError(sentence)

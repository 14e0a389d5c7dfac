# SPDX-License-Identifier: Apache-2.0
"""Which branch of the error tree the shared package raises, and when."""

import errno
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zmq", reason="pyzmq is missing; .venv/backend runs these tests")

from _support.made_up import make_avatar  # noqa: E402
from crowdgaussian_shared import errors  # noqa: E402
from crowdgaussian_shared.client.blocking import Watch, follow, wait_for  # noqa: E402
from crowdgaussian_shared.client.server import parse_pairing  # noqa: E402
from crowdgaussian_shared.client.updates import JobUpdate, ServerUpdate  # noqa: E402
from crowdgaussian_shared.formats.atomic import write_bytes  # noqa: E402
from crowdgaussian_shared.formats.avatar_npz import read_avatar, write_avatar  # noqa: E402
from crowdgaussian_shared.protocol.wire import decode  # noqa: E402
from crowdgaussian_shared.scene.folder import SceneFolder  # noqa: E402


def test_the_docstring_draws_the_tree():
    lines = [line.split() for line in errors.__doc__.splitlines()]
    drawn = [words[1] for words in lines if words and words[0] in ("*", "·", "-")]
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert drawn == classes
    for name in classes:
        wanted = Exception if name == "Cancelled" else errors.CrowdGaussianError
        assert issubclass(getattr(errors, name), wanted)
    assert not issubclass(errors.Cancelled, errors.CrowdGaussianError)


def test_a_missing_file(tmp_path):
    with pytest.raises(errors.MissingFileError, match="does not exist"):
        read_avatar(tmp_path / "avatar.npz")
    with pytest.raises(errors.MissingFileError, match="not a scene folder"):
        SceneFolder.open(tmp_path)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "avatar.npz"
    write_avatar(path, make_avatar())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(errors.DamagedFileError, match="damaged or truncated"):
        read_avatar(path)


def test_a_file_that_cannot_be_read_is_the_machine_s(tmp_path):
    (tmp_path / "avatar.npz").mkdir()
    with pytest.raises(errors.ResourceError, match="cannot be read"):
        read_avatar(tmp_path / "avatar.npz")


def test_what_does_not_fit_is_input(scene):
    with pytest.raises(errors.InputError, match="does not fit the photo"):
        scene.write_mask(0, np.zeros((2, 2), bool))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(tmp_path, fail_writing, number):
    fail_writing(number)
    with pytest.raises(errors.DiskFullError, match="disk is full"):
        write_bytes(tmp_path / "a", b"new")


def test_another_failure_to_write_is_no_full_disk(tmp_path, fail_writing):
    fail_writing(errno.EROFS)
    with pytest.raises(errors.ResourceError, match="cannot be written") as error:
        write_bytes(tmp_path / "a", b"new")
    assert type(error.value) is errors.ResourceError


def test_a_wrong_pairing_line_is_a_setting():
    with pytest.raises(errors.SettingError, match="no pairing line"):
        parse_pairing("hello")


class Answers:
    """A client whose server has said something."""

    server = "tcp://127.0.0.1:5555"

    def __init__(self, *updates):
        self._updates = updates

    def pump(self):
        """Nothing to pump."""

    def poll(self):
        return self._updates


@pytest.mark.parametrize(
    "update",
    [
        ServerUpdate("lost", "denied", "This key was revoked."),
        JobUpdate("job", Path("out"), "failed", error="No person was found.", finished=True),
        JobUpdate("job", Path("out"), "cancelled", finished=True),
    ],
)
def test_what_the_server_says(update):
    with pytest.raises(errors.RemoteError):
        follow(Answers(update), "job", Watch())


def test_a_server_that_is_silent_or_speaks_another_protocol():
    with pytest.raises(errors.RemoteError, match="did not answer"):
        wait_for(Answers(), (JobUpdate,), 0.0)
    with pytest.raises(errors.RemoteError, match="not of the CrowdGaussian protocol"):
        decode([b"HTTP"])

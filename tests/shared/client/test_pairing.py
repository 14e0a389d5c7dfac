# SPDX-License-Identifier: Apache-2.0
"""The pairing line survives a paste, and a damaged one is refused."""

import pytest
from crowdgaussian_shared.client.server import Pairing, parse_pairing
from crowdgaussian_shared.errors import CrowdGaussianError

KEYS = (bytes(range(32)), bytes(range(100, 132)), b"\xff" * 32)
PAIRING = Pairing("studio-mac.1", *KEYS)


@pytest.mark.parametrize("address", ["", "tcp://gpu.example.org:5555", "tcp://[::1]:5555"])
def test_a_line_survives(address):
    pairing = Pairing("studio-mac.1", *KEYS, address)
    assert parse_pairing(pairing.line()) == pairing
    wrapped = "  " + pairing.line()[:60] + "\n" + pairing.line()[60:] + "\n"
    assert parse_pairing(wrapped) == pairing


def test_the_secret_is_not_shown():
    assert "xff" not in repr(PAIRING)


@pytest.mark.parametrize(
    "line", ["", "hello", "cgpair2:a:" + "A" * 134, "cgpair1::AAAA", PAIRING.line()[:15],
             PAIRING.line().replace("studio-mac.1", "../etc")],
)  # fmt: skip
def test_something_else_is_refused(line):
    with pytest.raises(CrowdGaussianError, match="no pairing line|not whole"):
        parse_pairing(line)


def test_every_lost_or_changed_letter_is_noticed():
    line = PAIRING.line()
    for at in range(len("cgpair1:studio-mac.1:"), len(line) - 1):
        for damaged in (
            line[:at] + line[at + 1 :],
            line[:at] + ("B" if line[at] != "B" else "C") + line[at + 1 :],
        ):
            with pytest.raises(CrowdGaussianError, match="not whole"):
                parse_pairing(damaged)

# SPDX-License-Identifier: Apache-2.0
"""timings.json: how long each part of a run took.

It lies beside scene.json and is no artefact: two runs of the same photo differ in nothing else.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .fields import Field, parse_json
from .files import read_bytes, write_bytes

TIMINGS_FILE = "timings.json"
_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class Timings:
    """Seconds of one run; parts that were finished by an earlier run keep their times."""

    stages: dict[str, float] = field(default_factory=dict)
    people: dict[str, dict[str, float]] = field(default_factory=dict)  # by person, then step

    def of_person(self, index: int) -> dict[str, float]:
        """Seconds by step of one person; empty when unknown."""
        return self.people.get(str(index), {})


def read_timings(folder: Path) -> Timings:
    """The folder's timings; empty when there are none, as in a folder that came over the wire.

    Raises:
        CrowdGaussianError: the file is damaged.
    """
    path = folder / TIMINGS_FILE
    if not path.is_file():
        return Timings()
    root = parse_json(read_bytes(path, _LIMIT), str(path))
    people = root.child("people").members()
    return Timings(_seconds(root.child("stages")), {name: _seconds(p) for name, p in people})


def write_timings(folder: Path, timings: Timings) -> None:
    """Writes timings.json."""
    write_bytes(folder / TIMINGS_FILE, json.dumps(asdict(timings), indent=1).encode())


def _seconds(mapping: Field) -> dict[str, float]:
    return {name: value.number(low=0) for name, value in mapping.members()}

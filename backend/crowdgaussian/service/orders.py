# SPDX-License-Identifier: Apache-2.0
"""What the broker tells a worker."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Start:
    """What the broker writes on standard input, as one line of JSON."""

    endpoint: str
    name: str  # random: who does not know it is no worker of this broker
    beat_seconds: float
    pipeline: str  # module:function


@dataclass(frozen=True)
class Task:
    """One job as the broker hands it over."""

    job: str
    photo: str
    photo_name: str
    scene: str
    objects: str
    preset: str
    settings: dict[str, str]
    known: dict[str, str]  # hash by artefact name, of what was announced before
    edit: str = ""  # corrections, as in SUBMIT
    base: str = ""  # scene folder of the result that has the most of them; empty: none is here

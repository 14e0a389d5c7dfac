# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panel's choices mean as settings of the backend."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """One choice: fewer or more Gaussians and steps."""

    name: str
    title: str
    hint: str
    settings: dict[str, str]


QUALITIES = (
    Quality("DRAFT", "Draft", "Soft and quick: 12,000 splats per person",
            {"avatar.gaussians": "12000", "avatar.colour_steps": "30"}),
    Quality("NORMAL", "Normal", "The backend's own settings: 32,000 splats per person", {}),
    Quality("HIGH", "High", "Sharper and slower: 80,000 splats per person",
            {"avatar.gaussians": "80000", "avatar.colour_steps": "120"}),
)


def settings_for(quality: str, most_people: int = 0) -> dict[str, str]:
    """The backend's settings for a quality and a limit of people (0: no limit of ours)."""
    chosen = next(q for q in QUALITIES if q.name == quality)
    people = {"people.max_people": str(most_people)} if most_people else {}
    return {**chosen.settings, **people}

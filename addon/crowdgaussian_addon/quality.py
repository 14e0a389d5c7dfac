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


REFINEMENTS = (  # name, title, hint
    ("PRESET", "As the Preset", "Whatever the preset does"),
    ("OFF", "Off", "People stay as they are built; the quickest"),
    ("SMALL", "Open", "The small network that comes with the backend: sharper people from all "
     "sides, at about 20 more seconds each on a CPU"),
    ("TURBO", "SD-Turbo", "The paper's diffusion network, where the server has its weights and a "
     "GPU; its licence limits commercial use"),
)


def settings_for(quality: str, most_people: int = 0, refinement: str = "PRESET") -> dict[str, str]:
    """The backend's settings.

    Args:
        quality: a name of QUALITIES.
        most_people: 0 for no limit of ours.
        refinement: a name of REFINEMENTS.
    """
    chosen = next(q for q in QUALITIES if q.name == quality)
    people = {"people.max_people": str(most_people)} if most_people else {}
    stage = {"OFF": "none", "SMALL": "small", "TURBO": "turbo"}.get(refinement)
    return {**chosen.settings, **people, **({"stages.refiner": stage} if stage else {})}

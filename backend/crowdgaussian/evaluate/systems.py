# SPDX-License-Identifier: Apache-2.0
"""What is compared: the program's own appearance stages, and files that other systems wrote."""

import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.geometry.skinning import pose_avatar

from ..avatar.types import AvatarBuilder
from ..body import BodyModel
from ..core.device import choose_device
from ..core.progress import silent
from ..lorm.training.occlusion import Occluded
from ..pipeline.config import Config
from ..segment.types import CrowdView, PersonMask
from ..splat.splats import Splats
from .imported import DEFAULT_AXES, Axes, find_result, onto_person, read_result
from .subjects import Subject

if TYPE_CHECKING:
    from ..lorm.model.lorm import LormModel

OWN = ("lhm", "lorm", "photo_fit")


class System(Protocol):
    """One row of the tables."""

    name: str

    def splats(self, subject: Subject, hidden: Occluded, percent: int) -> Splats:
        """The person as this system completes them, in the scene frame.

        Args:
            subject: the person, with true body parameters and silhouette.
            hidden: the image of which a part is hidden.
            percent: how much, for file names.
        """
        ...


@dataclass
class BuilderSystem:
    """An appearance stage, given the true body parameters and silhouette."""

    name: str
    builder: AvatarBuilder
    around: AbstractContextManager = field(default_factory=nullcontext)

    def splats(self, subject: Subject, hidden: Occluded, percent: int) -> Splats:
        """See System."""
        masks = [PersonMask(hidden.visible, subject.mask, hidden.ratio)]
        with self.around:
            view = CrowdView(hidden.image, subject.crowd, masks)
            avatar = next(self.builder.reconstruct(view, [0], silent)).result()
        return Splats.from_gaussians(pose_avatar(avatar), choose_device())


@dataclass
class ImportedSystem:
    """Files NAME_PERCENT.ply, .obj or .glb of another system."""

    name: str
    folder: Path
    body: BodyModel
    axes: Axes | None = None  # None: those usual for the kind of file
    errors: list[float] = field(default_factory=list)  # metres left after each alignment

    def splats(self, subject: Subject, hidden: Occluded, percent: int) -> Splats:
        """See System."""
        path = find_result(self.folder, subject.name, percent)
        surface = self.body.posed(subject.person.params).vertices.astype(np.float64)
        eye = subject.crowd.camera.eye
        laid, error = onto_person(
            read_result(path),
            surface,
            self.axes or DEFAULT_AXES[path.suffix.lower()],
            eye - surface.mean(0),
        )
        self.errors.append(error)
        return Splats.from_gaussians(laid, choose_device())


class _AdaptersOff:
    """adapters_off that can be entered again and again."""

    def __init__(self, model: "LormModel") -> None:
        self.model = model

    def __enter__(self) -> None:
        from ..lorm.model.adapters import adapters_off

        self.context = adapters_off(self.model)
        self.context.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.context.__exit__(kind, error, trace)


def own_systems(names: tuple[str, ...], config: Config, body: BodyModel) -> list[System]:
    """The program's own stages; the network is loaded once for LHM and LORM.

    Raises:
        CrowdGaussianError: an unknown name, or files that are missing.
    """
    unknown = [name for name in names if name not in OWN]
    if unknown:
        raise SettingError(
            f"There is no system '{unknown[0]}' to evaluate; choose from {', '.join(OWN)}."
        )
    if "lorm" in names and not config.lorm.adapters:
        raise SettingError(
            "LORM is LHM with trained adapters: set lorm.adapters to their file, or leave 'lorm' "
            "out."
        )
    systems: list[System] = []
    if "lhm" in names or "lorm" in names:
        from ..lorm.stage import LormReconstructor

        network = LormReconstructor(config.lorm, body)
        if "lhm" in names:
            systems.append(BuilderSystem("LHM", network, _AdaptersOff(network.model)))
        if "lorm" in names:
            systems.append(BuilderSystem("LORM", network))
    if "photo_fit" in names:
        from ..avatar.photo_fit import PhotoFit

        systems.append(BuilderSystem("photo_fit", PhotoFit(config.avatar, body)))
    return systems


def occlusion_seed(name: str, percent: int) -> int:
    """The same person and share are hidden in the same way in every run."""
    return zlib.crc32(f"{name} {percent}".encode())

# SPDX-License-Identifier: Apache-2.0
"""Looking at a finished scene: arrays and pictures for scripts, a page for notebooks and browsers.

page.html beside this module draws the splats; it needs nothing from elsewhere. Splats are packed to
32 bytes: centres to 1/65535 of their person's size, scales to 0.02 %, rotations to 16 bits, colours
and opacity to 8. Colours that depend on the view are those that the photo's camera sees.
"""

import base64
import json
import sys
import tempfile
import webbrowser
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, InputError, ResourceError
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.sh import eval_sh
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARENTS
from crowdgaussian_shared.geometry.skinning import join_gaussians, pose_avatar, pose_body
from crowdgaussian_shared.motion.kinematics import heading
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import PersonEntry

from .files import motion_file, on_person

if TYPE_CHECKING:
    from torch import Tensor

    from ..splat.splats import Splats

_TEMPLATE = Path(__file__).with_name("page.html")
_PLACE = "@SCENE@"  # of the scene in it
_MOST = 4_000_000  # splats of a page: 170 MB, and as much again while a browser reads it
_MOST_FRAMES = 3000  # of a motion: 2.7 MB for each person
_STEPS, _SMALLEST = 4096, -14.0  # of a scale's logarithm, as page.html has them
_DISTANCE = 1.45  # of a camera around somebody, in diagonals of their box: all of them is seen
_KINDS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


# Scripts and notebooks: a scene, its people, and pictures of them


@dataclass(frozen=True)
class Person:
    """Somebody of a finished scene.

    Attributes:
        index: in scene.json.
        avatar: canonical Gaussians, skeleton and pose, as numpy arrays.
        scene: of which they are one.
    """

    index: int
    avatar: Avatar
    scene: "Scene"

    def gaussians(
        self, pose: np.ndarray | None = None, transl: np.ndarray | None = None
    ) -> Gaussians:
        """Posed in the scene frame, as numpy arrays; `Splats.from_gaussians` makes tensors.

        Args:
            pose: [55, 3] axis-angle, radians; None for the photo's.
            transl: [3] metres; None for the photo's.
        """
        return pose_avatar(self.avatar, pose, transl)

    def render(self, camera: Camera | None = None, pose: np.ndarray | None = None) -> np.ndarray:
        """A picture of this person alone, by default as the photo's camera sees them.

        Returns:
            [H, W, 4] uint8: sRGB, and how much of the person covers a pixel.
        """
        return render(self.gaussians(pose), camera or self.scene.camera)

    def cameras(self, count: int, size: int = 512) -> list[Camera]:
        """Cameras evenly around the person, the first in front of them, pictures of size pixels."""
        from ..splat.cameras import Cameras

        low, high = (f(pose_body(self.avatar), axis=0) for f in (np.min, np.max))
        facing = float(heading(axis_angle_to_matrix(self.avatar.pose[0])))
        far = float(np.linalg.norm(high - low)) * _DISTANCE
        orbit = Cameras.orbit(tuple((low + high) / 2), far, count, size=size, first=facing)
        return orbit.to_cameras()


class Scene:
    """A finished scene folder, opened to look at.

    Attributes:
        folder: what scene.json says, and every file.
        people: everybody who is done.
    """

    def __init__(self, path: str | Path) -> None:
        """Open it.

        Raises:
            CrowdGaussianError: no scene, nobody is done, or a damaged file.
        """
        self.folder = SceneFolder.open(path)
        indices = _done(self.folder)
        self.people = tuple(Person(k, self.folder.read_avatar(k), self) for k in indices)

    @property
    def camera(self) -> Camera:
        """The photo's.

        Raises:
            InputError: the scene does not know it.
        """
        if self.folder.info.camera is None:
            raise InputError(f"{self.folder.path} knows no camera; give one.")
        return self.folder.info.camera.to_camera()

    def gaussians(self) -> Gaussians:
        """Everybody as in the photo, in the scene frame."""
        return join_gaussians([person.gaussians() for person in self.people])

    def render(self, camera: Camera | None = None) -> np.ndarray:
        """A picture of everybody, as Person.render makes it.  # [H, W, 4] uint8"""
        return render(self.gaussians(), camera or self.camera)

    def show(self, height: int = 600, motion: str | Path | None = None) -> "Page":
        """The page of `crowdgaussian view`: in a notebook below the cell, else in the browser.

        Args:
            height: pixels of the cell.
            motion: a motion file that everybody can play.
        """
        played = None if motion is None else motion_file(Path(motion), None)
        page = Page(make_page(self.folder, played), height)
        if "ipykernel" not in sys.modules:
            page.open()
        return page


@dataclass(frozen=True)
class Page:
    """A page that needs nothing from elsewhere; a notebook shows it as it is."""

    html: bytes
    height: int  # pixels, in a notebook

    def _repr_html_(self) -> str:
        inside = escape(self.html.decode(), quote=True)
        return f'<iframe srcdoc="{inside}" width="100%" height="{self.height}"></iframe>'

    def open(self) -> Path:
        """Show it in the browser -> the file that holds it, which stays."""
        path = Path(tempfile.mkdtemp(prefix="crowdgaussian-")) / "scene.html"
        write_bytes(path, self.html)
        webbrowser.open(path.as_uri())
        return path


@overload
def render(splats: Gaussians, camera: Camera) -> np.ndarray: ...


@overload
def render(splats: "Splats", camera: Camera) -> "Tensor": ...


def render(splats: "Gaussians | Splats", camera: Camera) -> "np.ndarray | Tensor":
    """A picture of splats in the scene frame.

    Args:
        splats: numpy Gaussians or torch Splats.
        camera: whose picture it is.

    Returns:
        Of Gaussians [H, W, 4] uint8, sRGB and alpha, not premultiplied. Of Splats a tensor
        [H, W, 4] of 0..1 on their device, colours premultiplied, differentiable in the Splats.
    """
    import torch  # a page needs none of these

    from ..splat.cameras import Cameras
    from ..splat.rasterize import rasterize
    from ..splat.splats import Splats

    tensors = Splats.from_gaussians(splats) if isinstance(splats, Gaussians) else splats
    drawn = rasterize(tensors, Cameras.from_cameras(camera))
    picture = torch.cat([drawn.color[0], drawn.alpha[0, ..., None]], dim=-1)
    if not isinstance(splats, Gaussians):
        return picture
    colour, alpha = picture[..., :3], picture[..., 3:]
    plain = torch.cat([colour / alpha.clamp_min(1e-6), alpha], dim=-1)
    return (plain.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


# The page


def write_page(folder: SceneFolder, path: Path, motion: Motion | None = None) -> None:
    """Write the page of a scene, whole or not at all; a motion is what everybody can play on it.

    Raises:
        CrowdGaussianError: as of make_page, or the file cannot be written.
    """
    write_bytes(path, make_page(folder, motion))


def make_page(folder: SceneFolder, motion: Motion | None = None) -> bytes:
    """The page of everybody who is done, posed as in the photo; UTF-8.

    Raises:
        CrowdGaussianError: nobody is done, a damaged file, or more splats than a browser takes.
    """
    info = folder.info
    done = _done(folder)
    if motion is not None and motion.frames > _MOST_FRAMES:
        raise InputError(
            f"{motion.name} has {motion.frames} frames, more than the {_MOST_FRAMES} of a page; "
            "give fewer frames a second (--fps), or a part of it."
        )
    total = sum(info.people[index].gaussians for index in done)
    if total > _MOST:
        raise InputError(
            f"{folder.path} has {total} splats, more than the {_MOST} of a page; use fewer "
            "--gaussians, or Blender."
        )
    camera = info.camera
    eye = camera.to_camera().eye if camera is not None else np.array([0.0, 1.5, 4.0])
    scene = {
        "title": Path(info.photo.name).stem or folder.path.name,
        "photo": _photo(folder),
        "camera": None if camera is None else {
            "K": camera.K.ravel().tolist(), "viewmat": camera.viewmat.ravel().tolist(),
            "width": camera.width, "height": camera.height,
        },
        "warnings": [warning.sentence for warning in info.warnings],
        "joints": JOINT_NAMES, "parents": PARENTS,
        "fps": motion.fps if motion else 0, "frames": motion.frames if motion else 0,
        "people": [_person(folder, index, eye, motion) for index in done],
    }  # fmt: skip
    # no tag of HTML can begin inside
    text = json.dumps(scene, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return _TEMPLATE.read_text("utf-8").replace(_PLACE, text).encode()


def _done(folder: SceneFolder) -> list[int]:
    """Who can be shown; there is somebody."""
    done = [index for index, entry in enumerate(folder.info.people) if entry.state == "done"]
    if not done:
        raise InputError(
            f"{folder.path} has no finished person; run `crowdgaussian reconstruct` to its end."
        )
    return done


def _photo(folder: SceneFolder) -> str:
    """The photo as an address of its own; empty where it is gone."""
    path = folder.photo_path
    kind = _KINDS.get(path.suffix.lower())
    if kind is None or not path.is_file():
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _person(
    folder: SceneFolder, index: int, eye: np.ndarray, motion: Motion | None
) -> dict[str, Any]:
    entry = folder.info.people[index]
    avatar = folder.read_avatar(index)
    cloud = pose_avatar(avatar)
    low = cloud.means.min(axis=0)
    return {
        "name": f"Person {index:03d}",
        "words": _words(entry),
        "warnings": [warning.sentence for warning in entry.warnings],
        "count": len(cloud),
        "low": low.astype(float).tolist(),
        "size": np.ptp(cloud.means, axis=0).astype(float).tolist(),
        "rest": avatar.rest_joints.ravel().astype(float).tolist(),
        "pose": np.r_[avatar.pose.ravel(), avatar.transl].astype(float).tolist(),
        "motion": _packed_motion(on_person(motion, entry, avatar)) if motion else "",
        "data": base64.b64encode(_packed(cloud, eye) + _packed_skin(avatar)).decode(),
    }


def _words(entry: PersonEntry) -> str:
    """What the panel says of somebody in half a line."""
    hidden = f"{100 * entry.occlusion:.0f} % hidden" if entry.occlusion >= 0.01 else ""
    not_refined = "not refined" if entry.refinement in ("kept", "failed") else ""
    return ", ".join(part for part in (hidden, not_refined) if part)


def _packed(cloud: Gaussians, eye: np.ndarray) -> bytes:
    """Centres, scales, rotations, colours with opacity, one after the other."""
    low, size = cloud.means.min(axis=0), np.ptp(cloud.means, axis=0)
    places = np.round((cloud.means - low) / np.maximum(size, 1e-9) * 65535)
    logs = (np.log(np.maximum(cloud.scales, np.exp(_SMALLEST))) - _SMALLEST) * _STEPS
    rays = cloud.means - eye
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-9)
    colours = np.c_[eval_sh(cloud.sh, rays), cloud.opacities]
    parts = (
        (places, 65535, "<u2"),
        (np.round(logs), 65535, "<u2"),
        (np.round(cloud.quats * 32767), 32767, "<i2"),
        (np.round(colours * 255), 255, "u1"),
    )
    return b"".join(
        np.clip(values, -top if kind == "<i2" else 0, top).astype(kind).tobytes()
        for values, top, kind in parts
    )


def _packed_skin(avatar: Avatar) -> bytes:
    """Joints and weights of the splats, the weights of each in 255 parts."""
    parts = np.round(255 * avatar.skin_weights).astype(np.int64)
    largest = parts.argmax(axis=1)
    parts[np.arange(len(parts)), largest] += 255 - parts.sum(axis=1)
    return avatar.skin_joints.astype("u1").tobytes() + parts.astype("u1").tobytes()


def _packed_motion(motion: Motion) -> str:
    """Frame by frame the pose of 55 joints and the place, as float32 in base64."""
    rows = np.c_[motion.poses.reshape(motion.frames, -1), motion.transl].astype("<f4")
    return base64.b64encode(rows.tobytes()).decode()


# The page on this computer

HOST = "127.0.0.1"  # nobody else's business: the page holds the photo


def open_server(out: Path, port: int, motion: Motion | None = None) -> ThreadingHTTPServer:
    """A server of one page, made anew for each visit: of a running job it shows who is done.

    Raises:
        ResourceError: the port is taken.
    """
    handler = type("_Handler", (_PageHandler,), {"out": out, "motion": motion})
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        raise ResourceError(
            f"The port {port} cannot be used ({error}); leave --port out for a free one."
        ) from error


class _PageHandler(BaseHTTPRequestHandler):
    """Answers GET / and nothing else.

    Attributes:
        out: the scene folder.
        motion: what everybody can play, if there is one.
    """

    out: Path
    motion: Motion | None

    def do_GET(self) -> None:
        """The page, or a sentence where there is none."""
        # a foreign page whose name leads here must not read the answer
        named = self.headers.get("Host", "").rpartition(":")[0]
        if named not in (HOST, "localhost"):
            self._answer(HTTPStatus.FORBIDDEN, b"This page is for this computer alone.")
        elif self.path != "/":
            self._answer(HTTPStatus.NOT_FOUND, b"There is only one page here: /.")
        else:
            try:
                page = make_page(SceneFolder.open(self.out), self.motion)
            except CrowdGaussianError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error).encode())
            else:
                self._answer(HTTPStatus.OK, page, "text/html")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is the user's."""

# SPDX-License-Identifier: Apache-2.0
"""People from textured scans with fitted bodies, in the layout of THuman2.1 (Yu et al. 2021).

    FOLDER/.../0001/0001.obj           with its .mtl and .jpeg
    FOLDER/.../0001/smplx_param.npz    in the same folder, or in another of that name; made from the
                                       data set's smplx_param.pkl, which is never read here, by
                                       scripts/thuman_to_npz.py:
        global_orient 3, body_pose 63, jaw_pose, leye_pose, reye_pose 3 each, betas 10,
        left_hand_pose, right_hand_pose 12 each (main components) or 45, transl 3 (metres), and
        scale 1: units of the scan in a metre

open_param.npz holds the same for the open body, whose hands have 45 numbers and whose betas are its
own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import trimesh
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    DamagedFileError,
    InputError,
    MissingFileError,
)
from crowdgaussian_shared.formats.npz import ArrayHeader, read_npz
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from scipy.spatial import cKDTree

from ..body import BodyModel
from ..body.model import pose_body
from .scenes import Actor, DrawActor, moved_body

# Mesh files and the colours on their surfaces, from a texture or from the vertices


def read_parts(path: Path) -> list[trimesh.Trimesh]:
    """The meshes of a file.

    Raises:
        DamagedFileError: it is missing or damaged, or has no surface.
    """
    try:
        loaded = trimesh.load(path, process=False)
        parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
        meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        area = sum(mesh.area for mesh in meshes)
        if not meshes or not np.isfinite(area) or area <= 0:
            raise ValueError("it has no surface")
    except (ValueError, KeyError, IndexError, OSError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path} cannot be read as a mesh: {error}.") from error
    return meshes


def texture_of(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """The mesh's texture, where it has one and says where it lies.  # [H, W, 3] uint8"""
    visual = mesh.visual
    if not isinstance(visual, trimesh.visual.TextureVisuals) or visual.uv is None:
        return None
    image = getattr(visual.material, "image", None)
    image = image or getattr(visual.material, "baseColorTexture", None)
    try:
        return None if image is None else np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow's, when it comes to read pixels
        raise DamagedFileError(f"A texture is damaged: {error}.") from error


def surface_colours(mesh: trimesh.Trimesh, corners: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Colours at points of faces: from the texture, or else from the vertices.

    # [N, 3] vertices, [N, 3] shares of each -> [N, 3] 0..1
    """
    pixels = texture_of(mesh)
    if pixels is not None:
        return texels(pixels, np.einsum("nk,nkc->nc", shares, mesh.visual.uv[corners]))
    visual = mesh.visual
    if isinstance(visual, trimesh.visual.TextureVisuals):
        visual = visual.to_color()
    vertex_colors = np.asarray(visual.vertex_colors)[:, :3] / 255
    return np.einsum("nk,nkc->nc", shares, vertex_colors[corners])


def texels(pixels: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels; v counts upwards.  # [H, W, 3] uint8, [N, 2] -> [N, 3] 0..1"""
    height, width = pixels.shape[:2]
    column = np.floor((uv[:, 0] % 1) * width).astype(int).clip(0, width - 1)
    row = np.floor((1 - uv[:, 1] % 1) * height).astype(int).clip(0, height - 1)
    return pixels[row, column] / 255


_MOST = 150_000  # faces of a person
_LONGEST = 0.02  # metres, of an edge: larger faces are split, to have the texture's colours
_PER_CELL = 3.0  # faces by area, in cells, that merging vertices leaves
_PLACES = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2]]) / 6  # in a face, where it is seen


@dataclass(frozen=True)
class ColouredMesh:
    """A surface whose faces have one colour each."""

    vertices: np.ndarray  # [V, 3] metres
    faces: np.ndarray  # [F, 3]
    colours: np.ndarray  # [F, 3] sRGB 0..1


def read_textured(path: Path, unit: float, most: int = _MOST) -> ColouredMesh:
    """A mesh file with its texture.

    Args:
        path: OBJ with .mtl and image beside it.
        unit: metres of one unit of the file.
        most: faces, about, that finer meshes are simplified to.

    Raises:
        CrowdGaussianError: it cannot be read, or has no texture.
    """
    parts = [_coloured(part, unit, path) for part in read_parts(path)]
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    whole = ColouredMesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + s for part, s in zip(parts, starts)]),
        np.concatenate([part.colours for part in parts]),
    )
    return simplified(whole, most)


def _coloured(part: trimesh.Trimesh, unit: float, path: Path) -> ColouredMesh:
    pixels = texture_of(part)
    if pixels is None:
        raise MissingFileError(f"{path} has no texture; put its .mtl file and its image beside it.")
    vertices, faces = np.asarray(part.vertices) * unit, np.asarray(part.faces)
    finer, split, source = trimesh.remesh.subdivide_to_size(
        vertices, faces, _LONGEST, max_iter=12, return_index=True
    )
    uv = part.visual.uv[faces[source]]  # [F, 3, 2]
    colours = np.zeros((len(split), 3))
    for place in _PLACES:
        points = np.einsum("k,fkc->fc", place, finer[split])
        shares = trimesh.triangles.points_to_barycentric(vertices[faces[source]], points)
        shares = np.nan_to_num(shares, nan=1 / 3)
        colours += texels(pixels, np.einsum("fk,fkc->fc", shares, uv)) / len(_PLACES)
    return ColouredMesh(finer, split, colours)


def simplified(mesh: ColouredMesh, most: int) -> ColouredMesh:
    """Fewer faces: vertices of the same small cell become one.

    Args:
        mesh: any.
        most: faces, about; a mesh with fewer stays as it is.
    """
    if len(mesh.faces) <= most:
        return mesh
    areas = trimesh.triangles.area(mesh.vertices[mesh.faces])
    cell = np.sqrt(_PER_CELL * areas.sum() / most)
    keys = np.floor((mesh.vertices - mesh.vertices.min(0)) / cell).astype(np.int64)
    _, members = np.unique(keys @ np.array([1, 1 << 20, 1 << 40]), return_inverse=True)
    counts = np.bincount(members)
    vertices = np.stack([np.bincount(members, axis) / counts for axis in mesh.vertices.T], 1)
    faces = members[mesh.faces]
    ordered = np.sort(faces, 1)
    kept = np.flatnonzero((np.diff(ordered, axis=1) > 0).all(1))
    _, first, same = np.unique(ordered[kept], axis=0, return_index=True, return_inverse=True)
    weights, same = areas[kept] + 1e-12, same.reshape(-1)
    sums = np.stack([np.bincount(same, weights * c) for c in mesh.colours[kept].T], 1)
    return ColouredMesh(vertices, faces[kept[first]], sums / np.bincount(same, weights)[:, None])


# The people of a folder

FILES = {"smplx": "smplx_param.npz", "open": "open_param.npz"}
_POSE = {"global_orient": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3}
_HANDS = ("left_hand_pose", "right_hand_pose")
_NAMES = (*_POSE, *_HANDS, "transl", "betas", "scale")
_FAR = 0.1  # metres, between scan and body as a rule, of people who are not the same
_KEPT = 24  # people in memory
_TEST_EVERY = 5  # people
Hands = Mapping[str, tuple[np.ndarray, np.ndarray]]  # side: mean [45], components [45, 45]


class MeshPeople:
    """The people of a folder, read when they are asked for; draws any of them, see DrawActor."""

    def __init__(
        self, folder: Path, body: BodyModel, hands: Hands | None = None, whole: bool = True
    ) -> None:
        """Finds them.

        Args:
            folder: holds scans and parameters.
            body: that the parameters are of, as body_of says.
            hands: what SMPL-X's hand poses are relative to, see read_hands.
            whole: everybody must have parameters; else who lacks them is told when asked for.

        Raises:
            CrowdGaussianError: there is nobody, or somebody's parameters are missing.
        """
        self.folder, self.body, self.hands = folder, body, hands
        self._scans, self._parameters = _scans(folder), _parameters(folder, FILES[body.name])
        for name in self._scans if whole else ():
            self._parameters_of(name)
        self.names = sorted(self._scans)
        self.person = lru_cache(maxsize=_KEPT)(self._read)

    def __call__(self, rng: np.random.Generator) -> Actor:
        return self._among(self.names)(rng)

    def split(self) -> tuple[DrawActor, DrawActor]:
        """Draws people for training and for testing: others, where there are five or more."""
        test = self.names[_TEST_EVERY - 1 :: _TEST_EVERY] or self.names
        train = [name for name in self.names if name not in test] or self.names
        return self._among(train), self._among(test)

    def _among(self, names: list[str]) -> DrawActor:
        return lambda rng: self.person(names[int(rng.integers(len(names)))])

    def _parameters_of(self, name: str) -> Path:
        if name not in self._parameters:
            raise MissingFileError(
                f"Person {name} of {self.folder} has no {FILES[self.body.name]}; put it beside the "
                "scan, or take the person out."
            )
        return self._parameters[name]

    def _read(self, name: str) -> Actor:
        """One person, upright on the floor over the origin.

        Raises:
            CrowdGaussianError: the scan or the parameters are damaged or do not belong together.
        """
        path = self._parameters_of(name)
        try:
            given, unit = read_parameters(path, self.body, self.hands)
            return _standing(read_textured(self._scans[name], unit), self.body, given)
        except CrowdGaussianError as error:
            raise type(error)(f"Person {name}: {error}") from error


def body_of(folder: Path) -> str:
    """Which body model the parameters of a folder are of: "smplx" or "open".

    Raises:
        CrowdGaussianError: there are no parameters, or only the data set's pickles.
    """
    for name, file in FILES.items():
        if any(folder.glob(f"**/{file}")):
            return name
    if any(folder.glob("**/smplx_param.pkl")):
        raise InputError(
            f"{folder} holds pickles, which are not read; run "
            f"`python scripts/thuman_to_npz.py {folder}` once."
        )
    raise MissingFileError(
        f"{folder} holds no smplx_param.npz; it needs people in the layout of THuman2.1, such as "
        "0001/0001.obj and 0001/smplx_param.npz."
    )


def read_hands(path: Path) -> Hands:
    """Mean pose and main components of SMPL-X's hands, from its .npz.

    Raises:
        DamagedFileError: they are not there.
    """
    shapes = {
        f"hands_{what}{side}": shape
        for side in "lr"
        for what, shape in (("mean", (45,)), ("components", (45, 45)))
    }

    def check(headers: Mapping[str, ArrayHeader]) -> None:
        for name, shape in shapes.items():
            if name not in headers or headers[name].shape != shape:
                raise DamagedFileError(f"{path} is not SMPL-X: it lacks {name}.")

    arrays = read_npz(path, check, shapes, ours=False)
    return {
        side: (
            arrays[f"hands_mean{side}"].astype(np.float64),
            arrays[f"hands_components{side}"].astype(np.float64),
        )
        for side in "lr"
    }


def read_parameters(
    path: Path, body: BodyModel, hands: Hands | None = None
) -> tuple[BodyParams, float]:
    """The body of a scan in metres, and how many metres a unit of the scan is.

    Raises:
        DamagedFileError: the file is damaged or of another layout.
    """
    sizes = {**_POSE, "transl": 3, "betas": body.num_betas, "scale": 1}

    def check(headers: Mapping[str, ArrayHeader]) -> None:
        found = {name: int(np.prod(header.shape)) for name, header in headers.items()}
        right = all(found.get(name) in ((12, 45) if hands else (45,)) for name in _HANDS)
        if not right or any(found.get(name) != size for name, size in sizes.items()):
            raise DamagedFileError(
                f"{path} does not hold the parameters of one body, or of another body model."
            )

    arrays = read_npz(path, check, _NAMES, ours=False)
    values = {name: array.astype(np.float64).reshape(-1) for name, array in arrays.items()}
    scale = float(values["scale"][0])
    if not all(np.isfinite(each).all() for each in values.values()) or scale <= 0:
        raise DamagedFileError(f"{path} holds something that is no number, or no size.")
    pose = [
        *(values[name] for name in _POSE),
        *(_hand(values[name], hands[name[0]] if hands else None) for name in _HANDS),
    ]
    return BodyParams(
        values["betas"].astype(np.float32),
        np.concatenate(pose).reshape(55, 3).astype(np.float32),
        values["transl"].astype(np.float32),
        1.0,
    ), 1 / scale


def _hand(values: np.ndarray, rest: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    if rest is None:
        return values
    mean, components = rest
    return mean + (values if len(values) == len(mean) else values @ components[: len(values)])


def _scans(folder: Path) -> dict[str, Path]:
    scans = {
        path.stem: path for path in sorted(folder.glob("**/*.obj")) if path.parent.name == path.stem
    }
    if not scans:
        raise MissingFileError(f"{folder} holds no scans, such as 0001/0001.obj.")
    return scans


def _parameters(folder: Path, file: str) -> dict[str, Path]:
    return {path.parent.name: path for path in sorted(folder.glob(f"**/{file}"))}


def _standing(mesh: ColouredMesh, body: BodyModel, given: BodyParams) -> Actor:
    """Scan and body together upright, the lowest point of the scan on the floor."""
    posed = pose_body(body, given)
    surface = posed.pose_points(posed.rest)
    apart = float(np.median(cKDTree(mesh.vertices).query(surface)[0]))
    if apart > _FAR:
        raise InputError(
            f"The body of the parameters is {apart:.2f} m away from the scan; "
            "they are not of the same person, or not of this body model."
        )
    joints = posed.transforms[:, :3, :3] @ posed.joints[:, :, None]
    joints = joints[:, :, 0] + posed.transforms[:, :3, 3]  # [55, 3] where they are
    turn = _upright(joints)
    pelvis, lowest = turn @ joints[0], (mesh.vertices @ turn.T)[:, 1].min()
    shift = -np.array([pelvis[0], lowest, pelvis[2]])
    moved = moved_body(body, given, turn, shift)
    posed = pose_body(body, moved)
    return Actor(
        mesh.vertices @ turn.T + shift,
        mesh.faces,
        mesh.colours,
        False,
        body,
        moved,
        posed.pose_points(posed.rest),
    )


def _upright(joints: np.ndarray) -> np.ndarray:
    """The rotation by right angles that lays the axis from feet to neck on y.  # [3, 3]"""
    feet = joints[[JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]].mean(0)
    along = joints[JOINT_INDEX["neck"]] - feet
    axis = np.zeros(3)
    axis[np.abs(along).argmax()] = np.sign(along[np.abs(along).argmax()])
    if axis[1] < 0:
        return OPENCV_FROM_SCENE
    return axis_angle_to_matrix(np.cross(axis, [0.0, 1.0, 0.0]) * np.pi / 2)

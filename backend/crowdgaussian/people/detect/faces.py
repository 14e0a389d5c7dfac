# SPDX-License-Identifier: Apache-2.0
"""Faces in a photo: where a search for bodies starts, who bears witness, and where heads look."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from mediapipe.modules.face_detection import face_detection_pb2  # noqa: F401  the graph's options

from ...core.landmarks import HEAD, Landmark
from ...core.progress import Progress, Report, each, silent, within
from .landmark_net import (
    Graph,
    PhotoPyramid,
    Roi,
    apply,
    image_packet,
    packet_getter,
    patch_to_photo,
    whole_patch,
)
from .tta import Body

# MediaPipe's face networks, all three from the wheel (Apache-2.0)

MESH_PATCH = 192  # pixels, what the mesh network takes in
LEAST_SCORE = 0.35  # of a detection; lower: more knees and shirts for the mesh to refuse

_DETECT = """
input_stream: "image"
output_stream: "detections"
node {{
  calculator: "FaceDetection{range}RangeCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
  options {{
    [mediapipe.FaceDetectionOptions.ext] {{ min_score_thresh: {score} }}
  }}
}}
"""
_MESH = """
input_stream: "image"
input_stream: "roi"
output_stream: "landmarks"
node {
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:attention"
  options {
    [mediapipe.ConstantSidePacketCalculatorOptions.ext] { packet { bool_value: false } }
  }
}
node {
  calculator: "FaceLandmarkCpu"
  input_side_packet: "WITH_ATTENTION:attention"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  output_stream: "LANDMARKS:landmarks"
}
"""


@dataclass(frozen=True)
class FaceBox:
    """What a face detector says about one face, in pixels of its picture."""

    center: np.ndarray  # [2] float64
    size: float  # side of the box
    score: float  # 0..1
    eyes: np.ndarray  # [2, 2] float64, the person's right eye, then the left one


class FaceNetwork:
    """Both detectors, near and far, and the mesh, loaded once; not for several threads."""

    def __init__(self) -> None:
        """Loads the three networks from the mediapipe wheel."""
        self._detectors = [
            Graph(_DETECT.format(range=name, score=LEAST_SCORE), ("detections",))
            for name in ("Short", "Full")
        ]
        self._mesh = Graph(_MESH, ("landmarks",))

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        """Every face that a detector sees in a picture [H, W, 3] uint8 sRGB, doubles included."""
        size = np.array([picture.shape[1], picture.shape[0]], dtype=np.float64)
        packet, boxes = image_packet(picture), []
        for detector in self._detectors:
            found = detector.run(image=packet).get("detections")
            for one in packet_getter.get_proto_list(found) if found is not None else []:
                data = one.location_data
                box = data.relative_bounding_box
                sides = np.array([box.width, box.height]) * size
                corner = np.array([box.xmin, box.ymin]) * size
                eyes = np.array([[p.x, p.y] for p in data.relative_keypoints[:2]]) * size
                boxes.append(
                    FaceBox(corner + sides / 2, float(sides.max()), float(one.score[0]), eyes)
                )
        return boxes

    def mesh(self, photo: PhotoPyramid, roi: Roi) -> np.ndarray | None:
        """The 468 points of the face in a region; None when there is no face.  # [468, 3] float64

        Photo pixels; the third is depth away from the camera in the same unit, from the face's
        middle.
        """
        to_photo = patch_to_photo(roi, side=MESH_PATCH)
        patch = photo.patch(to_photo, MESH_PATCH)
        got = self._mesh.run(image=image_packet(patch), roi=whole_patch())
        if "landmarks" not in got:
            return None
        points = packet_getter.get_proto(got["landmarks"]).landmark
        xyz = np.array([[p.x, p.y, p.z] for p in points]) * MESH_PATCH
        scale = roi.size / MESH_PATCH
        return np.column_stack([apply(to_photo, xyz[:, :2]), xyz[:, 2] * scale])


def shrunk(photo: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """A photo whose longer side is at most this many pixels, and its size over the photo's."""
    factor = min(1.0, side / max(photo.shape[:2]))
    if factor == 1.0:
        return photo, factor
    return cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), factor


# Faces of a photo

_LOOKING = Progress("people", 0.0, message="looking for faces")
_TILES_SHARE = 0.7  # of the time, for the detectors; the rest is the mesh's
FACE_SIDE = 1600  # pixels, longer side of the copy in which faces are looked for
_TILES, _TILE_OVERLAP = (1, 2, 3, 4), 1.4  # tiles a side, and how much larger than their share
_SAME_FACE = 0.5  # of the larger box between the centres of two detections of one face
# The mesh agrees with a box where its middle and its extent fit. Of 190 boxes in 28 photos 114
# pass, one of them wrongly; knees, shirts, tiles, nets and boards do not.
_MESH_ROI = 1.5  # side of the mesh's region over the face's box; MediaPipe's own
_MESH_STEPS = 3
_EYE_CORNERS = (33, 263)  # of the mesh: the outer ones of the person's right and left eye
_MESH_OFF, _MESH_EXTENT = 0.4, (0.5, 1.8)  # of the box
_SURE_SCORE, _SURE_WINDOWS = 0.8, 4  # a profile, which has no mesh, seen so often and surely
NEAR_NOSE = 0.6  # of the box, between the middle of a face and the nose of the body it belongs to
FACE_OF_BODY = (0.05, 0.20)  # box over body height; of right pairs .065 to .154 were seen


@dataclass(frozen=True)
class Face:
    """A face in the photo."""

    center: np.ndarray  # [2] float64, photo pixels
    size: float  # side of its box, photo pixels
    score: float  # 0..1, of the surest detection
    windows: int  # in how many tiles, and by which of the two detectors, it was seen
    eyes: np.ndarray  # [2, 2] float64, photo pixels, the person's right eye, then the left one
    mesh: np.ndarray | None = None  # [468, 3] float64, as FaceNetwork.mesh

    @property
    def roll(self) -> float:
        """The tilt of the eyes' line, radians, clockwise in the picture."""
        along = self.eyes[1] - self.eyes[0]
        return float(np.arctan2(along[1], along[0]))

    @property
    def box(self) -> np.ndarray:
        """x0 y0 x1 y1, photo pixels.  # [4] float32"""
        return np.concatenate(
            [self.center - self.size / 2, self.center + self.size / 2], dtype=np.float32
        )

    @property
    def sure(self) -> bool:
        """Whether it surely is a face: sharp enough for the mesh, or a profile seen often."""
        often = self.windows >= _SURE_WINDOWS and self.score > _SURE_SCORE
        return self.mesh is not None or often

    def holds(self, point: np.ndarray, reach: float = NEAR_NOSE) -> bool:
        """Whether a point [2] lies within so many boxes of its middle."""
        return bool(np.linalg.norm(point - self.center) < reach * self.size)

    def is_of(self, body: Body, reach: float = NEAR_NOSE) -> bool:
        """Whether a body's nose lies in this face, and the two are of one size."""
        share = self.size / body.size
        return FACE_OF_BODY[0] < share < FACE_OF_BODY[1] and self.holds(
            body.xy[Landmark.NOSE], reach
        )


def find_faces(network: FaceNetwork, photo: PhotoPyramid, report: Report = silent) -> list[Face]:
    """Every face in the photo, surest first; see Face.sure for how far to believe each.

    Args:
        network: the face networks.
        photo: where to look.
        report: called before each tile and each face, from 0 to 1.
    """
    small, factor = shrunk(photo.levels[0], FACE_SIDE)
    seen, tiles = [], _tiles(small.shape[1], small.shape[0])
    for x, y, width, height in each(tiles, within(report, 0.0, _TILES_SHARE), _LOOKING):
        corner = np.array([x, y], float)
        for box in network.detect(small[y : y + height, x : x + width]):
            seen.append(
                FaceBox(
                    (box.center + corner) / factor,
                    box.size / factor,
                    box.score,
                    (box.eyes + corner) / factor,
                )
            )
    faces: list[Face] = []
    for face in each(_merged(seen), within(report, _TILES_SHARE, 1.0), _LOOKING):
        mesh = mesh_at(network, photo, face.center, face.size, face.roll)
        if mesh is not None:
            middle = mesh[:, :2].mean(axis=0)
            if any(one.mesh is not None and one.holds(middle, _SAME_FACE) for one in faces):
                continue  # a box beside a face, such as on its chin
        faces.append(replace(face, mesh=mesh))
    return faces


def mesh_at(
    network: FaceNetwork, photo: PhotoPyramid, center: np.ndarray, size: float, roll: float
) -> np.ndarray | None:
    """The mesh of the face in a box; None where the network sees none that fills the box.

    Args:
        network: the face networks.
        photo: where to look.
        center: [2] of the box, photo pixels.
        size: its side, photo pixels.
        roll: the tilt of the face, radians.
    """
    mesh, roi = None, Roi(center, _MESH_ROI * size, roll)
    for step in range(_MESH_STEPS):  # each time where the last one saw the face
        mesh = network.mesh(photo, roi)
        if mesh is None:
            return None
        low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
        middle, extent = (low + high) / 2, float((high - low).max())
        if (
            np.linalg.norm(middle - center) > _MESH_OFF * size
            or not _MESH_EXTENT[0] < extent / size < _MESH_EXTENT[1]
        ):
            return None
        if step > 0:  # a mesh of what is no face is not to turn until it fits
            eyes = mesh[_EYE_CORNERS[1], :2] - mesh[_EYE_CORNERS[0], :2]
            roll = float(np.arctan2(eyes[1], eyes[0]))
        roi = Roi(middle, _MESH_ROI * extent, roll)
    return mesh


def _tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Overlapping tiles x, y, width, height, the whole picture first."""
    tiles = [(0, 0, width, height)]
    for count in _TILES[1:]:
        w, h = (min(int(side / count * _TILE_OVERLAP), side) for side in (width, height))
        for i in range(count):
            for j in range(count):
                x, y = i * (width - w) // (count - 1), j * (height - h) // (count - 1)
                tiles.append((x, y, w, h))
    return tiles


def _merged(seen: list[FaceBox]) -> list[Face]:
    """Detections of one face made one, the surest box of each."""
    groups: list[list[FaceBox]] = []
    for one in sorted(seen, key=lambda box: -box.score):
        for group in groups:
            apart = float(np.linalg.norm(one.center - group[0].center))
            if apart < _SAME_FACE * max(one.size, group[0].size):
                group.append(one)
                break
        else:
            groups.append([one])
    return [
        Face(best.center, best.size, best.score, len(group), best.eyes)
        for group in groups
        for best in group[:1]
    ]


# Where a head looks: the mesh against the canonical face

# Points of MediaPipe's canonical face (@mediapipe/holistic 0.5.1675471629, Apache-2.0) that move
# little with expression, centimetres: x to the person's left, y up, z out of the face. Along the
# middle: (y, z) of each; in pairs: the left one, its mirror image at -x.
_MIDDLE = {
    10: (8.26, 4.48), 151: (6.55, 5.03), 9: (4.89, 5.39), 8: (4.02, 5.28), 168: (3.27, 5.24),
    6: (2.47, 5.79), 197: (1.73, 6.32), 195: (1.06, 6.77), 5: (0.37, 7.24), 4: (-0.46, 7.59),
    2: (-2.09, 6.06),
}  # fmt: skip
_PAIRS = {
    (263, 33): (4.45, 2.66, 3.17), (362, 133): (1.86, 2.59, 3.76), (359, 130): (4.67, 2.66, 3.08),
    (356, 127): (7.74, 2.36, -2.01), (454, 234): (7.66, 0.67, -2.44),
    (323, 93): (7.54, -1.05, -2.43), (345, 116): (6.47, 0.94, 1.69), (280, 50): (4.77, -0.7, 3.53),
    (297, 67): (3.52, 8.01, 3.73), (332, 103): (5.13, 7.49, 2.66), (284, 54): (6.28, 6.62, 1.43),
    (251, 21): (7.09, 5.43, 0.1), (327, 98): (1.41, -1.71, 5.24),
}  # fmt: skip
_RIGID = [*_MIDDLE, *(left for left, _ in _PAIRS), *(right for _, right in _PAIRS)]
_CANONICAL = np.array(
    [(0.0, *yz) for yz in _MIDDLE.values()]
    + list(_PAIRS.values())
    + [(-x, y, z) for x, y, z in _PAIRS.values()]
)


def head_rotation(mesh: np.ndarray) -> np.ndarray:
    """How a head is turned against one that faces the camera upright.  # [3, 3] float64

    Axes x right, y up, z to the camera, as it is seen straight on: the tilt of the viewing ray is
    not in it. Least squares over rigid points (Kabsch 1976).

    Args:
        mesh: [468, 3] as FaceNetwork.mesh.
    """
    seen = mesh[_RIGID] * [1.0, -1.0, -1.0]
    rest, seen = _CANONICAL - _CANONICAL.mean(axis=0), seen - seen.mean(axis=0)
    u, _, vt = np.linalg.svd(seen.T @ rest)
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


# Regions of the body's height around the head in which a face is looked for that no detector saw
_HEAD_REGIONS = (0.16, 0.22, 0.3)
_HEAD_REACH = 0.06  # of the body's height from the middle of the head to that of the mesh
# Of the face towards the camera: the mesh makes profiles look here, by up to 42 degrees; of faces
# it sees nearer to the front it is 5 degrees off in the mean (8 faces).
_MOST_TURNED = np.cos(np.radians(38.0))


def head_rotations(
    network: FaceNetwork, photo: PhotoPyramid, bodies: list[Body], faces: list[Face]
) -> list[np.ndarray | None]:
    """How everybody's head is turned, as head_rotation; None where no face tells.

    Args:
        network: the face networks.
        photo: where to look.
        bodies: the people.
        faces: those found in the photo; a body whose face was not found is looked at anew.
    """
    heads = np.array([body.xy[HEAD].mean(axis=0) for body in bodies]).reshape(-1, 2)
    turns: list[np.ndarray | None] = []
    for index, body in enumerate(bodies):
        meshes = [face.mesh for face in faces if face.mesh is not None and face.is_of(body)]
        if not meshes:
            meshes = _mesh_of_head(network, photo, heads[index], body.size)
        turn = None
        for mesh in meshes[:1]:
            middle = mesh[:, :2].mean(axis=0)
            nearest = int(np.linalg.norm(heads - middle, axis=1).argmin())
            turn = head_rotation(mesh) if nearest == index else None
        turns.append(turn if turn is not None and turn[2, 2] > _MOST_TURNED else None)
    return turns


def _mesh_of_head(
    network: FaceNetwork, photo: PhotoPyramid, head: np.ndarray, size: float
) -> list[np.ndarray]:
    """The mesh at a head, if one is there."""
    for part in _HEAD_REGIONS:
        mesh = mesh_at(network, photo, head, part * size / _MESH_ROI, 0.0)
        if mesh is not None:
            apart = float(np.linalg.norm(mesh[:, :2].mean(axis=0) - head))
            if apart < _HEAD_REACH * size:
                return [mesh]
    return []

# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's pose networks: the detector sees everybody in a picture, the landmarks one person.

The ready-made solutions find one person per call and hide their crops. The parts of their graphs
are wired up here one by one, and each answers one question at a time; where the landmark network
looks is a `Roi`. The "full" landmark network lies in the wheel; the "heavy" one, which reads the
same patch better, lies beside this module (from the npm package @mediapipe/pose 0.5.1675469404,
Apache-2.0).
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np
from crowdgaussian_shared.errors import SettingError

from ...core.landmarks import MIRROR
from ...weights import POSE_LANDMARKS_HEAVY

os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import mediapipe  # noqa: E402
from google.protobuf import text_format  # noqa: E402
from mediapipe.calculators.core import constant_side_packet_calculator_pb2  # noqa: E402
from mediapipe.framework import calculator_pb2  # noqa: E402
from mediapipe.framework.formats import rect_pb2  # noqa: E402
from mediapipe.python import packet_creator, packet_getter  # noqa: E402, F401
from mediapipe.python._framework_bindings import (  # noqa: E402
    calculator_graph,
    image_frame,
    resource_util,
)

PATCH = 256  # pixels, what the landmark network takes in
LANDMARK_NETWORKS = ("heavy", "full")

_DETECT = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""

_LANDMARKS = """
input_stream: "image"
input_stream: "roi"
output_stream: "landmarks"
output_stream: "world"
output_stream: "auxiliary"
output_stream: "mask"
node {
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:0:complexity"
  output_side_packet: "PACKET:1:segmentation"
  options {
    [mediapipe.ConstantSidePacketCalculatorOptions.ext] {
      packet { int_value: 1 }
      packet { bool_value: true }
    }
  }
}
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_side_packet: "MODEL_COMPLEXITY:complexity"
  input_side_packet: "ENABLE_SEGMENTATION:segmentation"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  output_stream: "LANDMARKS:landmarks"
  output_stream: "WORLD_LANDMARKS:world"
  output_stream: "AUXILIARY_LANDMARKS:auxiliary"
  output_stream: "SEGMENTATION_MASK:mask"
}
"""


@dataclass(frozen=True)
class CoarseDetection:
    """What the detector says about one person: a rough place and size, no limbs."""

    hip: np.ndarray  # [2] float64, pixels, middle of the hips
    crown: np.ndarray  # [2] float64, pixels, a point of the circle around the whole body
    score: float  # 0..1

    @property
    def radius(self) -> float:
        """Radius of the circle around the whole body, pixels."""
        return float(np.linalg.norm(self.crown - self.hip))


@dataclass(frozen=True)
class PatchPrediction:
    """What the landmark network says about one square patch."""

    xy: np.ndarray  # [33, 2] float64, patch pixels
    confidence: np.ndarray  # [33] float64, visibility x presence, 0..1
    world: np.ndarray  # [33, 3] float64, metres, OpenCV axes of the patch, origin mid-hip
    hip: np.ndarray  # [2] float64, patch pixels: where the body's circle is centred
    crown: np.ndarray  # [2] float64, patch pixels: a point on that circle, above the head
    mask: np.ndarray  # [PATCH, PATCH] float32, 0..1


class PoseNetwork:
    """Both networks, each loaded once; not safe to share between threads."""

    def __init__(self, landmarks: str = "heavy") -> None:
        """Loads the landmark network.

        Args:
            landmarks: "heavy" or, in two fifths of the time and less exact, "full".

        Raises:
            SettingError: there is no such network.
            MissingFileError: the file of the heavy network is gone.
            DamagedFileError: it is another file.
        """
        if landmarks not in LANDMARK_NETWORKS:
            raise SettingError(
                f"people.landmarks is '{landmarks}'; choose one of {', '.join(LANDMARK_NETWORKS)}."
            )
        files = {}
        if landmarks == "heavy":
            files["pose_landmark_full.tflite"] = str(POSE_LANDMARKS_HEAVY.checked_path()[0])
        self._landmarks = Graph(_LANDMARKS, ("landmarks", "world", "auxiliary", "mask"), files)

    @cached_property
    def _detector(self) -> "Graph":
        """Loaded when it is first asked: whoever only looks into regions needs none."""
        return Graph(_DETECT, ("detections",))

    def detect(self, picture: np.ndarray) -> list[CoarseDetection]:
        """Everybody the detector sees in a picture [H, W, 3] uint8 sRGB."""
        size = np.array([picture.shape[1], picture.shape[0]], dtype=np.float64)
        found = self._detector.run(image=image_packet(picture)).get("detections")
        if found is None:
            return []
        found_bodies = []
        for detection in packet_getter.get_proto_list(found):
            points = detection.location_data.relative_keypoints
            hip, crown = (np.array([p.x, p.y]) * size for p in points[:2])
            found_bodies.append(CoarseDetection(hip, crown, float(detection.score[0])))
        return found_bodies

    def predict(self, patch: np.ndarray) -> PatchPrediction | None:
        """Landmarks in a patch [PATCH, PATCH, 3] uint8; None when nobody is seen in it."""
        got = self._landmarks.run(image=image_packet(patch), roi=whole_patch())
        if "landmarks" not in got or "mask" not in got:
            return None
        points = packet_getter.get_proto(got["landmarks"]).landmark
        world = packet_getter.get_proto(got["world"]).landmark
        extra = packet_getter.get_proto(got["auxiliary"]).landmark
        return PatchPrediction(
            xy=np.array([[p.x, p.y] for p in points]) * PATCH,
            confidence=np.array([p.visibility * p.presence for p in points]),
            world=np.array([[p.x, p.y, p.z] for p in world]),
            hip=np.array([extra[0].x, extra[0].y]) * PATCH,
            crown=np.array([extra[1].x, extra[1].y]) * PATCH,
            mask=packet_getter.get_image(got["mask"]).numpy_view().reshape(PATCH, PATCH).copy(),
        )


# A graph that answers one question at a time


class Packet(Protocol):
    """What goes through a graph; MediaPipe's own types are not to be had."""

    def at(self, timestamp: int) -> "Packet": ...
    def is_empty(self) -> bool: ...


class Graph:
    """A running MediaPipe graph that answers one question at a time; not for several threads."""

    def __init__(
        self, text: str, outputs: tuple[str, ...], files: dict[str, str] | None = None
    ) -> None:
        """Builds and starts the graph.

        Args:
            text: the graph as MediaPipe's text format tells it.
            outputs: names of the output streams.
            files: model files to read in place of the wheel's, by the end of the wheel's path.
        """
        resource_util.set_resource_dir(os.path.dirname(os.path.dirname(mediapipe.__file__)))
        config = text_format.Parse(text, calculator_pb2.CalculatorGraphConfig())
        if files:
            config = _with_files(config, files)
        self._graph = calculator_graph.CalculatorGraph(graph_config=config)
        self._answer: dict[str, Packet] = {}
        self._time = 0
        for name in outputs:
            self._graph.observe_output_stream(name, self._answer.__setitem__, True)
        self._graph.start_run({})

    def run(self, **packets: Packet) -> dict[str, Packet]:
        """The output packets by name; those that are empty are left out."""
        self._time += 1
        self._answer.clear()
        for name, packet in packets.items():
            self._graph.add_packet_to_input_stream(name, packet.at(self._time))
        self._graph.wait_until_idle()
        return {name: p for name, p in self._answer.items() if not p.is_empty()}


def image_packet(picture: np.ndarray) -> Packet:
    """A picture [H, W, 3] uint8 sRGB for a graph."""
    return packet_creator.create_image_frame(
        data=np.ascontiguousarray(picture), image_format=image_frame.ImageFormat.SRGB
    )


def whole_patch() -> Packet:
    """The region of interest that is the whole picture."""
    whole = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0)
    return packet_creator.create_proto(whole)


def _with_files(config: Any, files: dict[str, str]) -> Any:
    """The graph with its subgraphs written out and the paths of model files exchanged in them."""
    whole = calculator_graph.CalculatorGraph(graph_config=config).binary_config
    config = calculator_pb2.CalculatorGraphConfig.FromString(whole)
    constant = constant_side_packet_calculator_pb2.ConstantSidePacketCalculatorOptions.ext
    for node in config.node:
        if node.options.HasExtension(constant):
            for packet in node.options.Extensions[constant].packet:
                for end, path in files.items():
                    if packet.string_value.endswith(end):
                        packet.string_value = path
    return config


# Region of interest: one turned, maybe mirrored square of a photo for the landmark network

CIRCLE_SCALE = 1.25  # side of the region over the circle around the body; MediaPipe's own


@dataclass(frozen=True)
class Roi:
    """A turned square in the photo: where the landmark network looks."""

    center: np.ndarray  # [2] float64, pixels
    size: float  # side, pixels
    rotation: float = 0.0  # radians, clockwise in the picture

    def changed(self, grow: float = 1.0, turn: float = 0.0, shift: tuple = (0.0, 0.0)) -> "Roi":
        """This square grown by a factor, turned by radians, shifted by parts of its size."""
        return Roi(
            self.center + np.asarray(shift) * self.size, self.size * grow, self.rotation + turn
        )


def roi_of_box(box: np.ndarray) -> Roi:
    """Where to look for the person in a box [4], x0 y0 x1 y1."""
    return Roi((box[:2] + box[2:]) / 2, CIRCLE_SCALE * float((box[2:] - box[:2]).max()))


@dataclass(frozen=True)
class LandmarkPrediction:
    """One run of the landmark network, told in photo pixels."""

    xy: np.ndarray  # [33, 2] float64, photo pixels
    confidence: np.ndarray  # [33] float64, 0..1
    world: np.ndarray  # [33, 3] float64, metres, OpenCV axes, origin mid-hip
    next_roi: Roi  # where the body is, as the network sees it
    mask: np.ndarray  # [PATCH, PATCH] float32, 0..1
    to_photo: np.ndarray  # [2, 3] float64, patch pixels -> photo pixels


class PhotoPyramid:
    """A photo and its halvings, so that a small patch of a large photo is not aliased."""

    def __init__(self, photo: np.ndarray) -> None:
        """photo: [H, W, 3] uint8 sRGB."""
        self.levels = [photo]
        while min(self.levels[-1].shape[:2]) >= 2 * PATCH:
            self.levels.append(cv2.pyrDown(self.levels[-1]))

    @property
    def size(self) -> np.ndarray:
        """Width and height of the photo.  # [2] float64"""
        height, width = self.levels[0].shape[:2]
        return np.array([width, height], dtype=np.float64)

    def patch(self, to_photo: np.ndarray, side: int) -> np.ndarray:
        """The square whose pixels lie at to_photo [2, 3] in the photo; black outside."""
        step = np.sqrt(abs(np.linalg.det(to_photo[:, :2])))
        level = int(np.clip(np.floor(np.log2(max(step, 1e-6))), 0, len(self.levels) - 1))
        matrix = _between_indices(to_photo) / 2.0**level
        return cv2.warpAffine(
            self.levels[level], matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )


def roi_from_points(hip: np.ndarray, crown: np.ndarray) -> Roi:
    """The square MediaPipe looks at (AlignmentPointsRectsCalculator, scaled by CIRCLE_SCALE)."""
    along = np.asarray(crown, dtype=np.float64) - hip
    return Roi(
        np.asarray(hip, dtype=np.float64),
        2 * CIRCLE_SCALE * float(np.linalg.norm(along)),
        float(np.arctan2(along[0], -along[1])),
    )


def patch_to_photo(roi: Roi, mirrored: bool = False, side: int = PATCH) -> np.ndarray:
    """The affine map from patch pixels to photo pixels.  # [2, 3] float64"""
    cos, sin = np.cos(roi.rotation), np.sin(roi.rotation)
    turn = np.array([[cos, -sin], [sin, cos]]) * (roi.size / side)
    if mirrored:
        turn = turn * [-1.0, 1.0]
    return np.column_stack([turn, roi.center - turn @ np.full(2, side / 2)])


def apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] through an affine map [2, 3]."""
    return points @ affine[:, :2].T + affine[:, 2]


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map that does inner first, then outer.  # [2, 3]"""
    linear = outer[:, :2]
    return np.column_stack([linear @ inner[:, :2], linear @ inner[:, 2] + outer[:, 2]])


def invert(affine: np.ndarray) -> np.ndarray:
    """The inverse of an affine map [2, 3]."""
    inverse = np.linalg.inv(affine[:, :2])
    return np.column_stack([inverse, -inverse @ affine[:, 2]])


def predict_in_roi(
    network: PoseNetwork, photo: PhotoPyramid, roi: Roi, mirrored: bool = False
) -> LandmarkPrediction | None:
    """Runs the landmark network on one square; None when it sees nobody there."""
    to_photo = patch_to_photo(roi, mirrored)
    seen = network.predict(photo.patch(to_photo, PATCH))
    if seen is None:
        return None
    xy, confidence, world = apply(to_photo, seen.xy), seen.confidence, seen.world.copy()
    world[:, :2] = world[:, :2] @ (to_photo[:, :2] / (roi.size / PATCH)).T
    if mirrored:
        xy, confidence, world = xy[MIRROR], confidence[MIRROR], world[MIRROR]
    following = roi_from_points(apply(to_photo, seen.hip), apply(to_photo, seen.crown))
    return LandmarkPrediction(xy, confidence, world, following, seen.mask, to_photo)


def warp_mask(mask: np.ndarray, mask_to_target: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask resampled into a target frame of shape (height, width); 0 outside."""
    matrix = _between_indices(mask_to_target)
    return cv2.warpAffine(mask, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)


def _between_indices(affine: np.ndarray) -> np.ndarray:
    """The map between pixel indices of a map between positions (centres at half integers)."""
    return np.column_stack([affine[:, :2], affine[:, 2] + 0.5 * affine[:, :2].sum(axis=1) - 0.5])

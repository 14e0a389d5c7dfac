# SPDX-License-Identifier: Apache-2.0
"""Who is in the picture: bodies, places, poses, faces, hair and clothes."""

from collections.abc import Callable
from dataclasses import dataclass

from . import poses
from .cloth import Fabric
from .hair import Style
from .paint_skin import Face
from .posing import Puppet
from .regions import Bottoms, Sock, Top
from .tailor import Cut, Skirt

FIRM = Fabric(stretch=0.95, bend=0.35)
SOFT = Fabric(stretch=0.85, bend=0.08)


@dataclass(frozen=True)
class Character:
    """One person. place is x, z on the floor in metres; facing 0 looks at the camera's plane."""

    name: str
    sex: float  # 0 male, 1 female
    age: float
    stature: float  # metres, barefoot
    weight: float
    muscle: float
    place: tuple[float, float]
    facing: float  # degrees, positive turns to the picture's right
    pose: Callable[[Puppet], None]
    face: Face
    hair: tuple[Style, ...]
    garments: tuple  # Cut or Skirt, inside first
    shoes: dict
    iris: tuple[float, float, float] = (0.25, 0.15, 0.08)
    shoe_height: float = 0.02


def _look(pattern: str, *colours, **material) -> dict:
    return {"pattern": pattern, "colours": colours, **material}


LEATHER = {"roughness": 0.45, "specular": 0.5, "sheen": 0.0, "creases": 0.1}
WHITE, NAVY, INK = (0.90, 0.89, 0.86), (0.12, 0.16, 0.28), (0.10, 0.10, 0.11)
JEANS = _look("denim", (0.16, 0.23, 0.36), (0.34, 0.43, 0.56), weave=900.0)

FATHER = Character(
    "father",
    0.0,
    46,
    1.80,
    0.72,
    0.55,
    (-1.22, -5.03),
    14,
    poses.hands_on_hips,
    Face((0.76, 0.55, 0.44), (0.62, 0.34, 0.31), (0.20, 0.13, 0.09), 0.0050, 0.6, 0.55, age=0.5),
    (Style((0.17, 0.11, 0.08), length=0.035, comb=(0.1, 0.0, -0.5), lift=0.5, recede=0.22),),
    (
        Cut("jeans", Bottoms(), JEANS, ease=0.012, tube=0.078, pinned=0.03, fabric=FIRM),
        Cut(
            "shirt",
            Top(hem=-0.10, sleeve=1.18, neck=0.035, vee=0.11),
            _look("plaid", (0.60, 0.13, 0.13), (0.16, 0.12, 0.16), (0.88, 0.80, 0.70)),
            ease=0.020,
            tube=0.068,
            fullness=1.05,
            fabric=SOFT,
        ),
    ),
    _look("shoe", (0.36, 0.22, 0.13), (0.16, 0.11, 0.08), (0.27, 0.16, 0.09), **LEATHER),
    iris=(0.28, 0.34, 0.22),
)

DANCER = Character(
    "dancer",
    1.0,
    25,
    1.69,
    0.42,
    0.5,
    (-0.66, -4.45),
    4,
    poses.waving,
    Face((0.45, 0.29, 0.21), (0.48, 0.22, 0.21), (0.07, 0.05, 0.04), 0.0036, 0.2, makeup=0.8),
    (Style((0.055, 0.042, 0.038), length=0.05, bun=0.055, count=12000),),
    (
        Skirt(
            "skirt",
            _look("floral", (0.93, 0.72, 0.16), (0.93, 0.93, 0.88), (0.80, 0.22, 0.20)),
            hem=0.90,
            waist=1.25,
            flare=0.14,
            fabric=SOFT,
        ),
        Cut(
            "bodice",
            Top(hem=1.15, sleeve=0.32, neck=-0.005, vee=0.10),
            _look("floral", (0.93, 0.72, 0.16), (0.93, 0.93, 0.88), (0.80, 0.22, 0.20)),
            ease=0.008,
            fullness=1.01,
            pinned=0.0,
            fabric=FIRM,
        ),
    ),
    _look("shoe", (0.88, 0.87, 0.84), (0.93, 0.92, 0.90), (0.80, 0.25, 0.22), roughness=0.6),
)

GRANDFATHER = Character(
    "grandfather",
    0.0,
    69,
    1.74,
    0.5,
    0.4,
    (-0.05, -5.78),
    4,
    poses.walking,
    Face((0.78, 0.58, 0.48), (0.62, 0.36, 0.33), (0.62, 0.60, 0.57), 0.0052, 0.9, 0.25, age=1.0),
    (Style((0.74, 0.73, 0.71), length=0.04, comb=(0.15, -0.1, -0.5), recede=0.30, count=9000),),
    (
        Cut(
            "chinos",
            Bottoms(),
            _look("plain", (0.66, 0.57, 0.44)),
            ease=0.012,
            tube=0.076,
            pinned=0.03,
            fabric=FIRM,
        ),
        Cut(
            "shirt",
            Top(hem=0.1, sleeve=1.7, neck=0.045, neck_tilt=30, vee=0.06),
            _look("plain", (0.84, 0.87, 0.92)),
            ease=0.012,
            fullness=1.02,
            fabric=SOFT,
        ),
        Cut(
            "cardigan",
            Top(hem=-0.12, sleeve=1.93, neck=0.015, opening=0.075),
            _look("knit", (0.15, 0.20, 0.33), weave=260.0),
            ease=0.026,
            tube=0.066,
            fullness=1.03,
            fabric=FIRM,
        ),
    ),
    _look("shoe", INK, (0.07, 0.07, 0.07), (0.13, 0.12, 0.12), **LEATHER),
    iris=(0.32, 0.44, 0.55),
)

CHILD = Character(
    "child",
    0.15,
    8,
    1.28,
    0.45,
    0.5,
    (0.47, -4.17),
    -8,
    poses.cheering,
    Face((0.84, 0.63, 0.52), (0.74, 0.38, 0.36), (0.45, 0.32, 0.20), 0.0032, 0.9, freckles=0.9),
    (
        Style(
            (0.55, 0.38, 0.20),
            length=0.055,
            comb=(0.45, -0.2, 0.10),
            lift=0.35,
            gravity=0.35,
            frizz=0.006,
        ),
    ),
    (
        Cut(
            "socks",
            Sock(0.10),
            _look("stripes", WHITE, (0.75, 0.15, 0.15)),
            ease=0.003,
            fabric=Fabric(steps=4),
        ),
        Cut(
            "shorts",
            Bottoms(waist=0.9, leg=0.80),
            _look("plain", (0.72, 0.16, 0.14)),
            ease=0.014,
            tube=0.080,
            pinned=0.025,
            fullness=1.05,
            fabric=FIRM,
        ),
        Cut(
            "tshirt",
            Top(hem=-0.15, sleeve=0.72, neck=0.015),
            _look("stripes", (0.92, 0.92, 0.90), (0.13, 0.28, 0.55)),
            ease=0.015,
            tube=0.055,
            fullness=1.05,
            fabric=SOFT,
        ),
    ),
    _look("shoe", (0.15, 0.35, 0.62), (0.93, 0.92, 0.90), (0.93, 0.80, 0.25), roughness=0.6),
    iris=(0.30, 0.42, 0.50),
)

RUNNER = Character(
    "runner",
    1.0,
    34,
    1.64,
    0.50,
    0.5,
    (1.03, -4.42),
    -20,
    poses.hands_on_knees,
    Face((0.80, 0.60, 0.46), (0.70, 0.32, 0.31), (0.10, 0.08, 0.07), 0.0036, 0.4, makeup=0.5),
    (Style((0.06, 0.05, 0.05), length=0.05, bun=0.045, part=0.3, count=13000),),
    (
        Cut(
            "trousers",
            Bottoms(waist=0.8, leg=1.85),
            _look("plain", (0.16, 0.17, 0.20)),
            ease=0.006,
            pinned=0.03,
            fullness=1.02,
            fabric=FIRM,
        ),
        Cut(
            "hoodie",
            Top(hem=-0.05, sleeve=1.58, neck=0.03),
            _look("print", (0.16, 0.47, 0.36), (0.94, 0.86, 0.60), (0.93, 0.92, 0.88), 0.20),
            ease=0.020,
            tube=0.058,
            fullness=1.05,
            fabric=SOFT,
        ),
    ),
    _look("shoe", (0.80, 0.32, 0.46), (0.92, 0.92, 0.92), (0.25, 0.25, 0.28), roughness=0.6),
)

STUDENT = Character(
    "student",
    0.0,
    23,
    1.85,
    0.38,
    0.6,
    (1.66, -5.42),
    -58,
    poses.looking_at_phone,
    Face((0.36, 0.23, 0.17), (0.40, 0.22, 0.20), (0.05, 0.04, 0.04), 0.0046, 0.1, 0.35),
    (
        Style(
            (0.05, 0.042, 0.04),
            length=0.06,
            comb=(0, 0, 0),
            lift=1.0,
            gravity=0.0,
            curl=0.0035,
            frizz=0.012,
            count=22000,
            variation=0.15,
        ),
    ),
    (
        Cut(
            "shorts",
            Bottoms(leg=0.92),
            _look("plain", (0.55, 0.52, 0.38)),
            ease=0.014,
            tube=0.105,
            pinned=0.03,
            fullness=1.05,
            fabric=FIRM,
        ),
        Cut(
            "tshirt",
            Top(hem=-0.12, sleeve=0.80, neck=0.012),
            _look("block", (0.86, 0.85, 0.82), (0.90, 0.42, 0.13), (0.13, 0.16, 0.25)),
            ease=0.017,
            tube=0.070,
            fullness=1.05,
            fabric=SOFT,
        ),
    ),
    _look("shoe", (0.88, 0.88, 0.87), (0.90, 0.90, 0.89), (0.20, 0.25, 0.40), roughness=0.6),
)

CAST = (FATHER, DANCER, GRANDFATHER, CHILD, RUNNER, STUDENT)

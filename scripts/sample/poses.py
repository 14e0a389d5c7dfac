# SPDX-License-Identifier: Apache-2.0
"""The poses of the picture. Lengths are shares of an arm's or leg's length, so they fit anybody."""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from .posing import Puppet

SIDES = (("left", 1), ("right", -1))


def _arm(puppet: Puppet) -> float:
    joints = [puppet.rest[JOINT_INDEX[f"left_{n}"]] for n in ("shoulder", "elbow", "wrist")]
    return sum(float(np.linalg.norm(b - a)) for a, b in zip(joints, joints[1:], strict=False))


def _hand_to(puppet: Puppet, side: str, offset, pole, base: str = "shoulder") -> None:
    """Wrist to base joint + offset in arm lengths; x counts outwards from the body."""
    sign = 1 if side == "left" else -1
    start = puppet.where(base if base in JOINT_INDEX else f"{side}_{base}")
    turn = puppet.forward()[0][JOINT_INDEX["spine3"]]
    move = turn @ (np.array([sign * offset[0], offset[1], offset[2]]) * _arm(puppet))
    puppet.reach(f"{side}_arm", start + move, turn @ np.array([sign * pole[0], *pole[1:]]))


def _hang(puppet: Puppet, side: str, swing: float = 0.0, out: float = 0.22) -> None:
    """Let an arm hang, a little bent; swing forward in arm lengths."""
    _hand_to(puppet, side, (out, -0.93, 0.06 + swing), (0.35, 0.0, -1.0))
    puppet.curl(side, 18)


def hands_on_hips(puppet: Puppet) -> None:
    """Legs apart, both hands on the hips, head a little tilted."""
    puppet.turn("spine2", z=2)
    puppet.turn("head", z=-4, y=6)
    puppet.plant("left", 0.17, 0.02, 14)
    puppet.plant("right", -0.15, -0.02, 12)
    for side, sign in SIDES:
        puppet.turn(f"{side}_collar", z=sign * -4)
        _hand_to(puppet, side, (0.33, 0.13, 0.17), (1.0, 0.0, -0.25), base="pelvis")
        puppet.turn(f"{side}_wrist", x=-25, y=sign * -30)
        puppet.curl(side, 22)


def waving(puppet: Puppet) -> None:
    """Weight on one leg, the left arm waves high, the right hangs."""
    puppet.offset = np.array([0.03, -0.012, 0.0])
    puppet.turn("pelvis", z=3)
    puppet.turn("spine2", z=-5)
    puppet.turn("head", z=-5, y=4)
    puppet.plant("left", 0.08, -0.03, 8)
    puppet.plant("right", -0.13, 0.06, 18)
    puppet.turn("left_collar", z=18)
    _hand_to(puppet, "left", (0.36, 0.72, 0.14), (1.0, -0.3, 0.0))
    puppet.turn("left_wrist", x=-70)
    puppet.turn("left_wrist", y=-12)
    puppet.curl("left", 5, spread=6)
    _hang(puppet, "right", 0.02, 0.22)


def walking(puppet: Puppet) -> None:
    """A relaxed stride, left foot in front, arms swinging against the legs."""
    leg = puppet.rest[0, 1]
    puppet.offset = np.array([0.0, -0.035 * leg, 0.02])
    puppet.turn("pelvis", y=-6, x=2)
    puppet.turn("spine2", y=7, x=3)
    puppet.turn("neck", x=-3)
    puppet.plant("left", 0.075, 0.27 * leg, 7, pitch=-4)
    puppet.plant("right", -0.075, -0.34 * leg, 7, pitch=30)
    for side, swing in (("left", -0.10), ("right", 0.28)):
        _hand_to(puppet, side, (0.18, -0.90, swing), (0.3, 0.0, -1.0))
        puppet.curl(side, 24)


def cheering(puppet: Puppet) -> None:
    """Both arms thrown up, one higher, legs apart."""
    puppet.turn("spine1", x=-4)
    puppet.turn("spine2", z=-4)
    puppet.turn("neck", x=-8)
    puppet.plant("left", 0.17, 0.05, 16)
    puppet.plant("right", -0.14, -0.04, 10)
    for side, sign, offset in (("left", 1, (0.50, 0.74, 0.12)), ("right", -1, (0.62, 0.60, 0.14))):
        puppet.turn(f"{side}_collar", z=sign * 18)
        _hand_to(puppet, side, offset, (0.8, -0.2, -0.4))
        puppet.turn(f"{side}_wrist", x=-60)
        puppet.curl(side, 6, spread=7)


def hands_on_knees(puppet: Puppet) -> None:
    """Half crouched, bent forward, hands resting above the knees, looking up."""
    leg = puppet.rest[0, 1]
    puppet.offset = np.array([0.0, -0.20 * leg, -0.24 * leg])
    puppet.turn("pelvis", x=26)
    for joint, bend in (("spine1", 12), ("spine2", 10), ("spine3", 5)):
        puppet.turn(joint, x=bend)
    puppet.turn("neck", x=-20)
    puppet.turn("head", x=-16)
    puppet.plant("left", 0.19, 0.02, 18)
    puppet.plant("right", -0.17, -0.03, 14)
    for side, sign in SIDES:
        goal = puppet.where(f"{side}_knee") + [sign * 0.02, 0.125, -0.02]
        puppet.reach(f"{side}_arm", goal, np.array([sign * 1.0, 0.15, -0.35]))
        puppet.turn(f"{side}_wrist", z=sign * -22, y=sign * 18)
        puppet.curl(side, 26)


def looking_at_phone(puppet: Puppet) -> None:
    """One hand raised in front of the chest, the other hanging, a foot forward."""
    puppet.offset = np.array([0.01, -0.02, 0.0])
    puppet.turn("spine3", x=4)
    puppet.turn("neck", x=8, y=-10)
    puppet.turn("head", x=6, y=-12)
    puppet.plant("left", 0.09, 0.13, 12)
    puppet.plant("right", -0.10, -0.08, 10)
    _hand_to(puppet, "right", (-0.02, -0.30, 0.52), (0.7, -1.0, -0.2))
    puppet.turn("right_wrist", x=-60)
    puppet.curl("right", 30)
    _hang(puppet, "left", -0.03, 0.16)

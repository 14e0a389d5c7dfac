# SPDX-License-Identifier: Apache-2.0
"""A real Blender in a window: Debian sid's, in a folder of its own, on a virtual screen.

Needs root, debootstrap and 1.2 GiB; everything is mounted in a private mount namespace, so nothing
stays behind outside the folder.
"""

import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np

SCREEN = (1600, 900)
PACKAGES = (
    "blender xvfb xauth x11-apps libgl1-mesa-dri libglx-mesa0 libegl1 libegl-mesa0 "
    "fonts-dejavu-core python3-numpy python3-requests python3-zstandard python3-cattr"
)
_MAKE = r"""
set -e
debootstrap --variant=minbase --include=ca-certificates sid "$1" "$2"
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
chmod +x "$1/usr/sbin/policy-rc.d"
echo 'Acquire::Check-Valid-Until "false";' >"$1/etc/apt/apt.conf.d/99novalid"
cp /etc/resolv.conf "$1/etc/"
mount -t proc proc "$1/proc"
export DEBIAN_FRONTEND=noninteractive
chroot "$1" apt-get update -q
chroot "$1" apt-get install -y -q --no-install-recommends $3
chroot "$1" apt-get clean
touch "$1/made"
"""
_RUN = r"""
mount -t proc proc "$1/proc"
mkdir -p "$1/mnt/test"
mount --bind "$2" "$1/mnt/test"
shift 2
exec chroot "$@"
"""


def debian_mirror() -> str:
    """The mirror that this machine uses, or Debian's own."""
    for path in (
        *Path("/etc/apt").glob("sources.list"),
        *Path("/etc/apt/sources.list.d").glob("*"),
    ):
        for word in path.read_text().split():
            if word.startswith("http") and word.rstrip("/").endswith("/debian"):
                return word
    return "http://deb.debian.org/debian"


def make_debian(folder: Path) -> None:
    """Debian sid with Blender; about two minutes the first time."""
    if (folder / "made").exists() or (folder / "usr/bin/blender").exists():
        return
    subprocess.run(
        ["unshare", "-m", "sh", "-c", _MAKE, "sh", str(folder), debian_mirror(), PACKAGES],
        check=True,
    )


_BLENDER = (
    "env",
    "-i",
    "PATH=/usr/bin:/bin",
    "HOME=/tmp/home",
    "LIBGL_ALWAYS_SOFTWARE=1",
    "GALLIUM_DRIVER=llvmpipe",
    "LP_NUM_THREADS=2",
    "BLENDER_USER_RESOURCES=/mnt/test/blender",
    "xvfb-run",
    "-a",
    "-s",
    f"-screen 0 {SCREEN[0]}x{SCREEN[1]}x24",
    "blender",
    "--factory-startup",
    "--gpu-backend",
    "opengl",
    "--window-geometry",
    "0",
    "0",
    str(SCREEN[0]),
    str(SCREEN[1]),
)


def run_blender(debian: Path, shared: Path, script: str, *arguments: str) -> str:
    """Blender in a window runs a script -> what it printed.

    Args:
        debian: from make_debian.
        shared: a folder that Blender sees as /mnt/test.
        script: inside `shared`.
        arguments: after the --.
    """
    (debian / "tmp/home").mkdir(parents=True, exist_ok=True)
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        _RUN,
        "sh",
        str(debian),
        str(shared),
        str(debian),
        *_BLENDER,
        "--python",
        f"/mnt/test/{script}",
        "--",
        *arguments,
    ]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        env=dict(os.environ),
    )
    return done.stdout


def read_xwd(path: Path) -> np.ndarray:
    """A picture that xwd took.  # [H, W, 3] uint8"""
    data = path.read_bytes()
    header = struct.unpack(">25I", data[:100])
    size, width, height, row_bytes, colours = (header[i] for i in (0, 4, 5, 12, 19))
    pixels = np.frombuffer(data, np.uint8, height * row_bytes, size + 12 * colours)
    return pixels.reshape(height, row_bytes)[:, : 4 * width].reshape(height, width, 4)[..., 2::-1]


def write_png(path: Path, pixels: np.ndarray) -> None:
    """An RGB picture.  # [H, W, 3] uint8"""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # a filter byte before each row
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    blocks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in blocks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)

# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of docs/guide.md from a scene folder of the bundled sample.

    .venv/blender-5.2/bin/python scripts/make_guide_pictures.py SCENE
    .venv/blender-5.2/bin/python scripts/make_guide_pictures.py SCENE --window FOLDER

SCENE comes from `crowdgaussian reconstruct SAMPLE -o SCENE`, where SAMPLE is
backend/crowdgaussian/synthetic/sample_data/sample.jpg. The
first line renders (a few minutes on 2 cores); the second photographs the panels in Debian's
Blender on a virtual screen, which is installed into FOLDER as for tests/addon/ui/test_window.py
(root, 1.2 GiB).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("addon", "shared", "tests", "scripts")]
IMAGES = ROOT / "docs/images"


def main() -> None:
    """One of the two kinds of pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path, help="scene folder of the sample")
    parser.add_argument("--window", type=Path, metavar="FOLDER", help="pictures of the panels")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some renders")
    parser.add_argument("--out", type=Path, default=IMAGES, metavar="FOLDER")
    options = parser.parse_args()
    if options.window is not None:
        from guide.panels import photograph

        with tempfile.TemporaryDirectory() as scratch:
            photograph(build_shared(Path(scratch), options.scene), options.window, options.out)
    else:
        from guide.renders import render_all

        render_all(options.scene, options.out, options.only)
    sys.stdout.flush()
    os._exit(0)  # Blender's module can wait for its own threads at exit


def build_shared(folder: Path, scene: Path) -> Path:
    """What Blender in the window needs: the extension, the driver, the scene."""
    wheels = ROOT / "dist/wheels"
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "install_addon.py"),
            "--zip-only",
            "--out",
            str(folder / "dist"),
            "--wheels",
            str(wheels),
        ],
        check=True,
    )
    shutil.copy(next((folder / "dist").glob("*blender-5.1-*.zip")), folder / "addon.zip")
    shutil.copy(Path(__file__).with_name("guide") / "panel_driver.py", folder)
    shutil.copytree(scene, folder / "scene")
    (folder / "out").mkdir()
    return folder


if __name__ == "__main__":
    main()

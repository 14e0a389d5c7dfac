#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the Blender extension and installs it; needs nothing but Python itself.

    python install_addon.py                      into every Blender that is found
    python install_addon.py --blender PATH       into this one: a Blender, or a Python with bpy
    python install_addon.py --zip-only           only build dist/*.zip, to drag into Blender

There is one zip for each range of Blender versions, because their Pythons differ. Running it again
replaces what was installed before.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ADDON, SHARED = ROOT / "addon/crowdgaussian_addon", ROOT / "shared/crowdgaussian_shared"
PYZMQ = "27.3.0"
LEFT_OUT = {"blend.py"}  # the backend's own entry, which runs from the project folder
_ABSOLUTE = re.compile(rb"^(?P<indent> *)from crowdgaussian_shared\.", re.MULTILINE)
DATE = (2026, 1, 1, 0, 0, 0)  # of every file in a zip, so that equal content gives equal zips
PLATFORMS = {  # Blender's name: pip's name
    "linux-x64": "manylinux_2_28_x86_64",
    "windows-x64": "win_amd64",
    "macos-arm64": "macosx_11_0_arm64",
    "macos-x64": "macosx_10_15_x86_64",
}


class Problem(Exception):
    """One sentence for the user: what is wrong and what to do."""


@dataclass(frozen=True)
class Range:
    """Blender versions that share a Python, and the wheels that it takes."""

    name: str  # in the zip's name
    low: tuple[int, int]
    high: tuple[int, int] | None  # the first version that is out
    python: str
    abi: str
    plyfile: str  # its newest version for the numpy that these Blenders bring

    def takes(self, version: tuple[int, int]) -> bool:
        """Whether a Blender of this version is in it."""
        return version >= self.low and (self.high is None or version < self.high)


RANGES = (
    Range("4.5-5.0", (4, 5), (5, 1), "3.11", "cp311", "1.1.3"),
    Range("5.1", (5, 1), None, "3.13", "abi3", "1.1.5"),
)


@dataclass(frozen=True)
class Blender:
    """A Blender to install into."""

    path: Path
    version: tuple[int, int]
    module: bool  # a Python that has bpy, not a whole Blender


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = _options()
    try:
        blenders = [look_at(options.blender)] if options.blender else find_blenders()
        if options.zip_only:
            zips = [build_zip(r, list(PLATFORMS), options) for r in RANGES]
            _say_how_to_drag(zips, blenders)
            return 0
        if not blenders:
            raise Problem(
                "No Blender 4.5 or newer was found; name one with --blender PATH, or "
                "use --zip-only and drag the zip into Blender."
            )
        for blender in blenders:
            install(blender, options)
    except Problem as problem:
        print(f"install_addon: {problem}", file=sys.stderr)
        return 2
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--blender",
        type=Path,
        metavar="PATH",
        help="a Blender, or a Python that has the bpy module",
    )
    parser.add_argument(
        "--zip-only",
        action="store_true",
        help="build the zips for every system and install nothing",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "dist",
        metavar="FOLDER",
        help="where zips go (default: dist)",
    )
    parser.add_argument(
        "--wheels",
        type=Path,
        metavar="FOLDER",
        help="where other people's wheels are kept or are downloaded to "
        "(default: wheels inside the --out folder)",
    )
    return parser.parse_args()


def build_zip(range_: Range, platforms: list[str], options: argparse.Namespace) -> Path:
    """The extension for a range of Blenders and some systems.

    Raises:
        Problem: a wheel of pyzmq or plyfile is missing and cannot be downloaded.
    """
    cache = options.wheels or options.out / "wheels"
    found = {pyzmq_wheel(range_, p, cache) for p in platforms} | {plyfile_wheel(range_, cache)}
    wheels = {path.name: path.read_bytes() for path in sorted(found)}
    manifest = (ADDON / "blender_manifest.toml").read_text(encoding="utf-8")
    version = tomllib.loads(manifest)["version"]
    systems = "all" if len(platforms) > 1 else platforms[0]
    target = options.out / f"crowdgaussian-{version}-blender-{range_.name}-{systems}.zip"
    files = {"blender_manifest.toml": _manifest(manifest, range_, platforms, wheels).encode()}
    files |= {f"wheels/{name}": data for name, data in wheels.items()}
    files |= dict(extension_sources())
    files["LICENSE"] = (ROOT / "LICENSES/GPL-3.0-or-later.txt").read_bytes()
    files[f"{SHARED.name}/LICENSE"] = (ROOT / "LICENSES/Apache-2.0.txt").read_bytes()
    options.out.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(part, "w") as archive:
        _fill(archive, files)
    os.replace(part, target)
    return target


def _manifest(text: str, range_: Range, platforms: list[str], wheels: dict[str, bytes]) -> str:
    """The manifest with what depends on the zip."""
    lines = [f'blender_version_min = "{_dotted(range_.low)}"']
    if range_.high:
        lines.append(f'blender_version_max = "{_dotted(range_.high)}"')
    lines += [
        f"platforms = {_toml_list(platforms)}",
        f"wheels = {_toml_list(f'./wheels/{name}' for name in wheels)}",
    ]
    return re.sub(r"^blender_version_min = .*$", "\n".join(lines), text, flags=re.MULTILINE)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}.0"


def _toml_list(values: Iterator[str] | list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _sources(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if name not in LEFT_OUT and "__pycache__" not in path.parts:
            yield name, path.read_bytes()


def _fill(archive: zipfile.ZipFile, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        info = zipfile.ZipInfo(name, DATE)
        info.external_attr = 0o644 << 16
        stored = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
        archive.writestr(info, data, stored)


def extension_sources() -> Iterator[tuple[str, bytes]]:
    """The add-on's modules, and those of shared/ as a package of its own.

    Two add-ons of one Blender must not share top-level modules, so imports become relative.
    """
    for name, data in _sources(SHARED):
        yield f"{SHARED.name}/{name}", data
    for name, data in _sources(ADDON):
        inside = b"from " + b"." * (name.count("/") + 1) + SHARED.name.encode() + b"."
        yield name, _ABSOLUTE.sub(rb"\g<indent>" + inside, data)


def pyzmq_wheel(range_: Range, system: str, cache: Path) -> Path:
    """The wheel of pyzmq for a range and a system."""
    options = ["--implementation", "cp", "--python-version", range_.python, "--abi", range_.abi]
    options += ["--platform", PLATFORMS[system]]
    return _wheel(cache / f"{range_.abi}-{system}", "pyzmq", PYZMQ, options)


def plyfile_wheel(range_: Range, cache: Path) -> Path:
    """The wheel of plyfile for a range; it is pure Python, one for every system."""
    return _wheel(cache / "any", "plyfile", range_.plyfile, ["--python-version", range_.python])


def _wheel(folder: Path, name: str, version: str, options: list[str]) -> Path:
    """A wheel from a folder of the cache, or from the package index by way of it."""
    found = list(folder.glob(f"{name}-{version}-*.whl"))
    if found:
        return found[0]
    print(f"Downloading {name} {version} into {folder}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", *options]
    command += ["--dest", str(folder), f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = list(folder.glob(f"{name}-{version}-*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise Problem(
            f"{name} could not be downloaded ({reason}); check the network and that "
            f"`{sys.executable} -m pip` works, or put its wheel into {folder}."
        )
    return found[0]


def find_blenders() -> list[Blender]:
    """Every Blender of a supported version, in the usual places."""
    home = Path.home()
    patterns = {
        "Windows": [
            (
                Path(os.environ.get("ProgramFiles", "C:/Program Files")),
                "Blender Foundation/Blender */blender.exe",
            )
        ],
        "Darwin": [
            (folder, "Blender*.app/Contents/MacOS/Blender")
            for folder in (Path("/Applications"), home / "Applications")
        ],
    }.get(
        platform.system(),
        [
            (folder, "blender*/blender")
            for folder in (
                Path("/opt"),
                home,
                home / "Applications",
                home / "Downloads",
                Path("/snap/bin/.."),
            )
        ],
    )
    paths = [Path(found)] if (found := shutil.which("blender")) else []
    for folder, pattern in patterns:
        paths += sorted(folder.glob(pattern))
    blenders: dict[Path, Blender] = {}
    for path in paths:
        try:
            blenders.setdefault(path.resolve(), look_at(path))
        except Problem as problem:
            print(f"Passing over {path}: {problem}")
    return list(blenders.values())


def look_at(path: Path) -> Blender:
    """What lies at a path.

    Raises:
        Problem: neither a Blender nor a Python with bpy, or too old.
    """
    path = path.absolute()
    if path.suffix == ".app":
        path = path / "Contents/MacOS/Blender"
    told = _ask([str(path), "--version"])
    module = told.startswith("Python ")
    if module:
        told = _ask([str(path), "-c", "import bpy; print('Blender', bpy.app.version_string)"])
    match = re.search(r"^Blender (\d+)\.(\d+)", told, re.MULTILINE)
    if match is None:
        raise Problem(f"{path} is neither a Blender nor a Python with bpy; check the path.")
    version = (int(match[1]), int(match[2]))
    if not any(r.takes(version) for r in RANGES):
        raise Problem(f"{path} is Blender {match[1]}.{match[2]}; install Blender 4.5 or newer.")
    return Blender(path, version, module)


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"{command[0]} cannot be run ({error}); check the path.") from error
    return done.stdout


def install(blender: Blender, options: argparse.Namespace) -> None:
    """Builds, validates, installs and enables, and says where.

    Raises:
        Problem: Blender refused it.
    """
    range_ = next(r for r in RANGES if r.takes(blender.version))
    zip_file = build_zip(range_, [this_platform()], options)
    validate(blender, zip_file)
    print(f"Built {zip_file}, which Blender finds valid")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "install.py"
        script.write_text(_INSTALL, encoding="utf-8")
        if blender.module:
            command = [str(blender.path), str(script), str(zip_file)]
        else:
            command = [
                str(blender.path),
                "--background",
                "--python-exit-code",
                "1",
                "--python",
                str(script),
                "--",
                str(zip_file),
            ]
        done = subprocess.run(command, capture_output=True, text=True)
    told = re.search(r"^INSTALLED (.+)$", done.stdout, re.MULTILINE)
    if done.returncode or told is None:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise Problem(
            f"Blender {_dotted(blender.version)} at {blender.path} did not take the "
            f"extension: {' '.join(lines[-5:])}"
        )
    use = "Open the tab Crowd in the sidebar of a 3D viewport (key N)."
    if blender.module:
        use = "Scripts enable it with addon_utils, see docs/scripting.md."
    print(
        f"Installed in Blender {blender.version[0]}.{blender.version[1]} ({blender.path}): "
        f"{told[1]}. {use}"
    )


def this_platform() -> str:
    """Blender's name for this computer's system.

    Raises:
        Problem: pyzmq has no wheel for it that we know.
    """
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    system = {"Linux": "linux", "Windows": "windows", "Darwin": "macos"}.get(platform.system())
    name = f"{system}-{machine}"
    if name not in PLATFORMS:
        raise Problem(
            f"There is no extension for {name}; the known systems are: {', '.join(PLATFORMS)}."
        )
    return name


def _say_how_to_drag(zips: list[Path], blenders: list[Blender]) -> None:
    for range_, path in zip(RANGES, zips):
        fitting = next((b for b in blenders if range_.takes(b.version)), None)
        checked = "not validated, no Blender of this range is here"
        if fitting is not None:
            validate(fitting, path)
            checked = f"validated by Blender {fitting.version[0]}.{fitting.version[1]}"
        print(f"Built {path} ({checked})")
    print("Drag the zip for your Blender's version into its window.")


def validate(blender: Blender, zip_file: Path) -> None:
    """Asks Blender's own tool.

    Raises:
        Problem: it found a fault.
    """
    if blender.module:
        finder = "import bpy,os;print(bpy.utils.resource_path('LOCAL'))"
        scripts = Path(_ask([str(blender.path), "-c", finder]).strip().splitlines()[-1])
        tool = scripts / "scripts/addons_core/bl_pkg/cli/blender_ext.py"
        command = [str(blender.path), str(tool), "validate", str(zip_file)]
    else:
        command = [str(blender.path), "--command", "extension", "validate", str(zip_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Problem(f"{zip_file} is not valid: {(done.stdout + done.stderr).strip()}")


_INSTALL = """
import sys
import bpy

zip_file = sys.argv[-1]
bpy.ops.extensions.package_install_files(
    filepath=zip_file, repo="user_default", enable_on_install=True, overwrite=True)
module = "bl_ext.user_default.crowdgaussian"
if module not in bpy.context.preferences.addons:
    sys.exit("the extension was not enabled")
if not bpy.app.module:  # the module has not read the user's preferences: they are not its to save
    bpy.ops.wm.save_userpref()
import importlib
print("INSTALLED", importlib.import_module(module).__path__[0], flush=True)
"""

if __name__ == "__main__":
    sys.exit(main())

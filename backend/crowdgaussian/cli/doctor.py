# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian doctor: what of this machine fits, what does not, and what to do about each.

Nothing heavy is imported before its check, so that the command also runs where half of the packages
are missing. Exit codes: 0 nothing to mend; 1 photos can be reconstructed, but something is to be
mended; 2 they cannot.
"""

import argparse
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from .. import __version__
from ..weights import CATALOGUE, OPEN_REFINER, TABLE, weights_folder
from ..weights.local import files_of, how, local_path
from .blend import find_blenders

DISTRIBUTION = "crowdgaussian"
OK, NOTE, WARNING, FAULT = "ok", "note", "warning", "fault"  # a note is no reason to do anything
EXIT_CODES = {OK: 0, NOTE: 0, WARNING: 1, FAULT: 2}
PYTHONS = ((3, 11), (3, 13))  # the first that will do, and the first that will not: pyproject.toml
LEAST_BLENDER = (4, 5)  # blender_manifest.toml
NEEDED_MEMORY = 1.5 * 2**30  # bytes; eleven photos took 1.05 to 1.25 GB (README, Speed)
GPU_MEMORY = 8 * 2**30  # bytes; the paper preset's largest network and its pictures
NEEDED_DISK = 2**30  # bytes; a scene of ten people takes about 100 MB
BLENDER_SECONDS = 60.0  # Blender's first start reads its files from a cold disk


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    topic: str
    name: str
    state: str  # OK, NOTE, WARNING or FAULT
    found: str
    remedy: str = ""  # one sentence; empty where there is nothing to do


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `doctor` to the command line."""
    parser = commands.add_parser("doctor", help="what is installed, what is missing, what to do")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.set_defaults(run=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    checks = examine()
    code = exit_code(checks)
    if arguments.json:
        print(json.dumps({"exit_code": code, "checks": [asdict(c) for c in checks]}, indent=1))
    else:
        for line in report_lines(checks):
            print(line)
    worst = [check for check in checks if EXIT_CODES[check.state] == code]
    if code:  # the add-on shows this line
        more = f" ({len(worst) - 1} more)" if len(worst) > 1 else ""
        name = "" if worst[0].name in worst[0].found else f"{worst[0].name}: "
        print(f"crowdgaussian: {name}{worst[0].found} {worst[0].remedy}{more}", file=sys.stderr)
    return code


def exit_code(checks: list[Check]) -> int:
    """That of the worst."""
    return max(EXIT_CODES[check.state] for check in checks)


def report_lines(checks: list[Check]) -> Iterator[str]:
    """The report as plain text, so that it can be read and sent from anywhere."""
    marks = {OK: "ok", NOTE: "-", WARNING: "MEND", FAULT: "FAULT"}
    for topic in dict.fromkeys(check.topic for check in checks):
        yield topic
        for check in checks:
            if check.topic == topic:
                yield f"  {marks[check.state]:<6}{check.name}: {check.found}"
                if check.remedy:
                    yield f"        {check.remedy}"
    verdict = ("All is well.", "It works; see MEND above.", "It cannot work; see FAULT above.")
    yield verdict[exit_code(checks)]


def examine() -> list[Check]:
    """Everything, in the order in which it is needed; a check that fails is a fault by itself."""
    parts: tuple[Callable[[], Iterator[Check]], ...] = (
        check_python,
        check_packages,
        check_blenders,
        check_gpu,
        check_memory,
        check_weights,
        check_presets,
        check_folders,
        check_ports,
    )
    checks: list[Check] = []
    for part in parts:
        try:
            checks += part()
        except (CrowdGaussianError, ImportError, OSError, ValueError, RuntimeError) as error:
            topic = part.__name__.removeprefix("check_")
            said = " ".join(str(error).split()).rstrip(".")
            remedy = "Mend what is said above, then run this again."
            checks.append(Check(topic, "check", FAULT, f"It could not be made ({said}).", remedy))
    return checks


# Python and its packages


def check_python() -> Iterator[Check]:
    """Whether this Python is one that the packages are made for."""
    version = sys.version_info[:2]
    found = f"{platform.python_version()} at {sys.executable}, {platform.platform(terse=True)}."
    fits = PYTHONS[0] <= version < PYTHONS[1]
    remedy = "" if fits else "Use Python 3.11, as `make setup` does."
    yield Check("python", "Python", OK if fits else FAULT, found, remedy)


def check_packages() -> Iterator[Check]:
    """What the package's own metadata asks for, and each extra as a whole."""
    trouble = _trouble(DISTRIBUTION, "")
    remedy = "Run `make setup`, or `pip install` the wheel." if trouble else ""
    found = f"{trouble or metadata.version(DISTRIBUTION)}."
    yield Check("packages", DISTRIBUTION, WARNING if trouble else OK, found, remedy)
    extras: dict[str, list[str]] = {}
    for requirement in _requirements():
        name, wanted, extra = _parsed(requirement)
        trouble = _trouble(name, wanted)
        if extra:
            extras.setdefault(extra, []).extend([trouble] if trouble else [])
        elif trouble:
            yield Check("packages", name, FAULT, f"{trouble}.", "Run `make setup`, or `pip "
                        f"install '{name}{wanted}'`.")  # fmt: skip
        else:
            yield Check("packages", name, OK, f"{metadata.version(name)}.")
    yield from _check_mediapipe()
    for extra, troubles in extras.items():
        if extra in ("dev", "build"):  # for those who work on the project itself
            continue
        install = f"For it, run `pip install '{DISTRIBUTION}[{extra}]'`."
        if troubles:
            yield Check("packages", f"extra {extra}", NOTE, f"{'; '.join(troubles)}.", install)
        else:
            yield Check("packages", f"extra {extra}", OK, "All there.")


def _requirements() -> list[str]:
    """As the metadata has them; those of the clone where the package is not installed."""
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        file = Path(__file__).resolve().parents[3] / "pyproject.toml"
        return tomllib.loads(file.read_text("utf-8"))["project"]["dependencies"]


def _check_mediapipe() -> Iterator[Check]:
    """It is installed without its own dependencies, so no metadata of ours names it."""
    wanted = next(file.version for file in CATALOGUE["keypoint_fit"] if file.package == "mediapipe")
    trouble = _trouble("mediapipe", f"=={wanted}")
    remedy = f"Run `make setup`, or `pip install --no-deps mediapipe=={wanted}`." if trouble else ""
    found = trouble or wanted
    yield Check("packages", "mediapipe", FAULT if trouble else OK, f"{found}.", remedy)


def _parsed(requirement: str) -> tuple[str, str, str]:
    """'numpy<3,>=2.2; extra == "x"' -> name, versions, extra (empty: always needed)."""
    text, _, marker = requirement.partition(";")
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
    match = re.match(r"\s*([\w.-]+)(?:\[[^]]*\])?\s*\(?([^)]*)\)?", text)
    assert match is not None  # written by a build backend
    return match[1], match[2].replace(" ", ""), extra[1] if extra else ""


def _trouble(name: str, wanted: str) -> str:
    """What is wrong with a package, without a full stop; empty: nothing."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is not installed"
    return "" if version_fits(version, wanted) else f"{name} is {version}, not {wanted}"


def version_fits(version: str, wanted: str) -> bool:
    """Whether a version is within comma-separated limits, such as ">=2.2,<3" or "==2.13.*"."""
    return all(_within(version, limit) for limit in wanted.split(",") if limit)


def _within(version: str, limit: str) -> bool:
    match = re.match(r"(==|>=|<=|!=|<|>)(.+)", limit)
    if match is None:
        return True
    sign, text = match.groups()
    bound = _numbers(text)
    own = _numbers(version)
    width = len(bound) if text.endswith(".*") else max(len(own), len(bound))
    own, bound = (tuple((*numbers, *[0] * width)[:width]) for numbers in (own, bound))
    return {
        "==": own == bound,
        "!=": own != bound,
        ">=": own >= bound,
        "<=": own <= bound,
        "<": own < bound,
        ">": own > bound,
    }[sign]


def _numbers(version: str) -> tuple[int, ...]:
    """Of the release: "2.13.0+cpu" -> 2, 13, 0."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


# Blender, and the add-on in it


def check_blenders() -> Iterator[Check]:
    """Every Blender that `blend` could use, the first one being the one it takes."""
    found = find_blenders()
    if not found:
        remedy = "Install Blender 4.5 or newer, or name one in CROWDGAUSSIAN_BLENDER."
        yield Check("blender", "Blender", WARNING, "No Blender was found.", remedy)
    for path in found:
        version = _blender_version(path)
        if version is None:
            remedy = "Install it again, or name another one in CROWDGAUSSIAN_BLENDER."
            yield Check("blender", str(path), WARNING, "It does not say its version.", remedy)
        elif _numbers(version)[:2] < LEAST_BLENDER:
            remedy = "Install Blender 4.5 or newer."
            yield Check("blender", str(path), WARNING, f"{version} is too old.", remedy)
        else:
            yield Check("blender", str(path), OK, f"{version}.")
    yield from _check_addons()


def _blender_version(path: Path) -> str | None:
    """Of a Blender, or of the bpy of a Python, which is not started for it."""
    asked = ["--version"]
    if path.name.startswith("python"):
        asked = ["-c", "from importlib.metadata import version; print('Blender', version('bpy'))"]
    try:
        told = subprocess.run(
            [str(path), *asked], capture_output=True, timeout=BLENDER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rb"Blender (\d+\.\d+(\.\d+)?)", told.stdout)
    return match[1].decode() if match else None


def _check_addons() -> Iterator[Check]:
    """Extensions of ours in the user's Blenders, which have to be as new as this package."""
    own = _numbers(__version__)
    for manifest in sorted(_blender_settings().glob("*/extensions/*/crowdgaussian/*.toml")):
        match = re.search(r'^version = "([^"]+)"', manifest.read_text("utf-8"), re.MULTILINE)
        version = match[1] if match else "unknown"
        name = f"add-on of Blender {manifest.parents[3].name}"
        fits = _numbers(version) == own
        remedy = "" if fits else "Run `python install_addon.py` in the project's folder."
        yield Check("blender", name, OK if fits else WARNING, f"{version}.", remedy)


def _blender_settings() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", "")) / "Blender Foundation" / "Blender"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Blender"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "blender"


# What computes, and where it keeps things


def check_gpu() -> Iterator[Check]:
    """The GPU that torch sees; none is no fault, one that torch does not see is."""
    from ..service.workers import describe_device, gpu_indices

    device = describe_device(look_for_gpu=True)
    if device.kind == "cuda":
        found = f"{device.name}, {_gib(device.memory_total)} of memory, "
        found += f"{_gib(device.memory_free)} free."
        small = device.memory_total < GPU_MEMORY
        less = "The paper's networks want 8 GiB; the preset open needs none." if small else ""
        yield Check("device", "GPU", NOTE if small else OK, found, less)
        return
    if gpu_indices():
        remedy = "Install torch for CUDA from pytorch.org, and `pip install 'crowdgaussian[cuda]'`."
        found = "This computer has an NVIDIA GPU, but torch does not see it."
        yield Check("device", "GPU", WARNING, found, remedy)
    else:
        yield Check("device", "GPU", NOTE, "None; the CPU does the work.")


def check_memory() -> Iterator[Check]:
    """The memory that is free now."""
    from ..service.workers import describe_device

    device = describe_device(look_for_gpu=False)
    found = f"{device.name}; {_gib(device.memory_free)} of {_gib(device.memory_total)} free."
    short = 0 < device.memory_free < NEEDED_MEMORY
    remedy = "Close other programs: a photo takes about 1.3 GiB." if short else ""
    yield Check("device", "memory", WARNING if short else OK, found, remedy)


def check_weights() -> Iterator[Check]:
    """Bundled files are compared with their hashes; fetched ones have to be whole."""
    from ..weights.hub import verify_packaged

    for file in (*(file for files in CATALOGUE.values() for file in files), OPEN_REFINER):
        verdict = verify_packaged(file)
        good = verdict.state == "ok"
        found = f"{file.licence}." if good else verdict.detail.split(";")[0].rstrip(".") + "."
        remedy = "" if good else "Run `make setup`, or install the package again."
        yield Check("weights", file.name, OK if good else FAULT, found, remedy)
    for name, entry in TABLE.items():
        paths = files_of(entry)
        there = [path for path in paths if path.is_file()]
        free = "" if entry.commercial else ", not for commercial use"
        if local_path(name) is not None:
            yield Check("weights", name, OK, f"fetched; {entry.licence}{free}.")
        elif there:
            found = f"{len(there)} of {len(paths)} files are there."
            yield Check("weights", name, WARNING, found, f"To complete it, {how(entry)}.")
    absent = [name for name in TABLE if local_path(name) is None]
    if absent:
        found = f"{len(absent)} networks that the preset open does without ({', '.join(absent)})."
        remedy = "`crowdgaussian weights list` says what each is for and what it allows."
        yield Check("weights", "not fetched", NOTE, found, remedy)


def check_presets() -> Iterator[Check]:
    """What presets have and lack, licence by licence; no reason to mend anything."""
    from .weights import large_parts, paper_parts

    for name, parts in (("open-large", large_parts()), ("paper", paper_parts())):
        for part in parts:
            state = OK if part.there else NOTE
            yield Check(f"preset {name}", part.name, state, part.found, part.remedy)


def check_folders() -> Iterator[Check]:
    """Whether what has to be written can be, and whether there is room."""
    from ..service.results import default_data

    folders = {
        "service data": default_data(),
        "weights folder": weights_folder(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for name, folder in folders.items():
        there = next(place for place in (folder, *folder.parents) if place.is_dir())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            remedy = f"Allow writing there (chmod, or choose another place); it is for {name}."
            yield Check("folders", name, WARNING, f"{there} cannot be written.", remedy)
        elif free < NEEDED_DISK:
            remedy = "Make room: results and downloads need 1 GiB at least."
            yield Check("folders", name, WARNING, f"{folder}: {_gib(free)} free.", remedy)
        else:
            yield Check("folders", name, OK, f"{folder}: {_gib(free)} free.")


def check_ports() -> Iterator[Check]:
    """Whether `serve` could start with its usual ports; a server that runs is good news."""
    from crowdgaussian_shared.protocol.wire import DEFAULT_PORT

    for port in (DEFAULT_PORT, DEFAULT_PORT + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                remedy = "If that is no `crowdgaussian serve`, give `serve` another port: "
                remedy += f"--bind tcp://127.0.0.1:{DEFAULT_PORT + 10}."
                yield Check("ports", str(port), NOTE, "Something listens there.", remedy)
            else:
                yield Check("ports", str(port), OK, "free.")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"

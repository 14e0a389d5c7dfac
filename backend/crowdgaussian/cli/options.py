# SPDX-License-Identifier: Apache-2.0
"""The options that several commands take: a preset and its changed settings, and numbers."""

import argparse
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from crowdgaussian_shared.errors import MissingFileError, SettingError

_PRESETS = Path(__file__).parent


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence for an error.

    Attributes:
        late: adds options whose defaults lie beside code that takes seconds to import; called when
            the command is given.
    """

    late: Callable[[argparse.ArgumentParser], None] | None = None

    def error(self, message: str) -> NoReturn:
        """As an error of this program."""
        sentence = message[:1].upper() + message[1:].rstrip(".")
        raise SettingError(f"{sentence}; see `{self.prog} --help`.")

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, with the late options."""
        late, self.late = self.late, None
        if late is not None:
            late(self)
        return super().parse_known_args(args, namespace)


def add_fields(parser: Any, kind: type, options: Mapping[str, str]) -> None:
    """Adds an option for each of some fields of a dataclass, with its help and default.

    Args:
        parser: or a group of one.
        kind: the dataclass; its fields are made with core.progress.setting. A tuple becomes an
            option with several values.
        options: name of a field -> that of its option, without dashes before it.
    """
    known = {field.name: field for field in fields(kind)}
    for name, option in options.items():
        field = known[name]
        default: Any = field.default
        several = isinstance(default, tuple)
        values: tuple[Any, ...] = default if several else (default,)
        parser.add_argument(
            f"--{option}",
            type=type(values[0]),
            nargs="+" if several else None,
            metavar="N",
            help=f"{field.metadata['help']} ({' '.join(map(str, values))})",
        )


def given_fields(arguments: argparse.Namespace, options: Mapping[str, str]) -> dict[str, Any]:
    """The values that the command line gave to the fields of add_fields."""
    values = {
        name: getattr(arguments, option.replace("-", "_")) for name, option in options.items()
    }
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None
    }


def add_setting_options(parser: argparse.ArgumentParser) -> None:
    """Adds --preset, --set and the short names of the settings used most."""
    parser.add_argument("--preset", default="open", help="open (default), open-large or paper")
    parser.add_argument("--max-people", metavar="N", help="keep the N most confident people")
    parser.add_argument(
        "--focal",
        metavar="F",
        help="focal length: pixels of the file (2100) or 35 mm equivalent (35mm)",
    )
    parser.add_argument("--gaussians", metavar="N", help="Gaussians per person")
    parser.add_argument(
        "--people-command",
        metavar="COMMAND",
        help='find people by your own program: "python mine.py {photo} {out}"',
    )
    parser.add_argument(
        "--people-results",
        metavar="PATH",
        help="people that PromptHMR, SAM 3D Body, ... found in the photo earlier",
    )
    add_changes(parser, "change any setting listed by `crowdgaussian settings`")


def add_changes(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds --set, which may be given several times."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes", help=text
    )


def add_preset(parser: argparse.ArgumentParser, command: str) -> None:
    """Adds --preset, a file of options; `with_preset` puts them in when the command runs.

    Args:
        parser: of the command.
        command: the section of the file, such as "train.refiner".
    """
    names = ", ".join(path.stem for path in sorted(_PRESETS.glob("*.toml")))
    parser.add_argument(
        "--preset", metavar="NAME", help=f"options from a file: {names}, or a path of your own"
    )
    parser.set_defaults(preset_section=command)


def with_preset(arguments: argparse.Namespace) -> None:
    """Fills in what the command line leaves open, from the preset that it names.

    Raises:
        SettingError: there is no such preset, it has another option, or it needs one.
    """
    if arguments.preset is None:
        return
    section = _preset_section(arguments.preset, arguments.preset_section)
    needs = section.pop("needs", {})
    for option, value in section.items():
        name = option.replace("-", "_")
        if name not in arguments:
            raise SettingError(f"The preset '{arguments.preset}' has an unknown option {option}.")
        given = getattr(arguments, name)
        if given is None or given is False or given == []:
            setattr(arguments, name, value)
    changed = read_changes(arguments.changes) if "changes" in arguments else {}
    for option, what in needs.items():
        name = option.removeprefix("set ")
        if not (changed.get(name) or getattr(arguments, name.replace("-", "_"), None)):
            raise SettingError(f"The preset '{arguments.preset}' needs --{option}{what}.")


def _preset_section(preset: str, command: str) -> dict[str, Any]:
    path = _PRESETS / f"{preset}.toml"
    path = path if path.is_file() else Path(preset)
    try:
        section: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        for name in command.split("."):
            section = section[name]
        return dict(section)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SettingError(
            f"There is no preset '{preset}' with options for {command.replace('.', ' ')}; "
            "give paper, or a file in its layout."
        ) from error


# What is said of a folder in which the same command goes on
RUN_GOES_ON = "folder; an interrupted run goes on there"
TRAINING_GOES_ON = "folder; an interrupted training goes on there"


def add_out(parser: argparse.ArgumentParser, text: str | None = None) -> None:
    """Adds --out, the folder that a command fills and must be told."""
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=text)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds --overwrite."""
    parser.add_argument("--overwrite", action="store_true", help="replace a scene in OUT")


def setting_changes(arguments: argparse.Namespace) -> dict[str, str]:
    """The changed settings by name, as texts.

    Raises:
        SettingError: a --set without a value.
    """
    named = (
        ("people.max_people", arguments.max_people),
        ("photo.focal", arguments.focal),
        ("avatar.gaussians", arguments.gaussians),
    )
    changes = {name: value for name, value in named if value is not None}
    for stage, value in (
        ("command", arguments.people_command),
        ("results", arguments.people_results),
    ):
        if value is not None:
            changes |= {"stages.people": stage, f"people.{stage}": value}
    return changes | read_changes(arguments.changes)


def read_changes(changes: list[str]) -> dict[str, str]:
    """Settings by name from NAME=VALUE.

    Raises:
        SettingError: one has no value.
    """
    settings = {}
    for text in changes:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"'--set {text}' needs a value; write --set NAME=VALUE.")
        settings[name] = value
    return settings


# Whom crowds are made of, and what rebuilds them, for every command that makes crowds

STAGES = ("photo_fit", "lorm")


def add_mesh_options(parser: argparse.ArgumentParser) -> None:
    """Adds --meshes and --body."""
    parser.add_argument(
        "--meshes",
        type=Path,
        metavar="FOLDER",
        help="textured scans with fitted bodies, as THuman2.1 has them, in place of made-up people",
    )
    parser.add_argument(
        "--body",
        type=Path,
        metavar="FILE",
        help="SMPL-X .npz that the scans' bodies were fitted with",
    )


def made_up_people(makehuman: Path | None = None):
    """People who do not exist and their body model; dressed from a folder of MakeHuman's."""
    from ..body import load_body
    from ..synthetic.dressed import dressed_actor
    from ..synthetic.scenes import made_up_actor

    body = load_body("open")
    if makehuman is not None:
        return lambda rng: dressed_actor(body, makehuman, rng), body
    return lambda rng: made_up_actor(body, rng), body


def scanned_people(folder: Path, body_file: Path | None, whole: bool = True):
    """People of a folder and their body model; `whole` as for MeshPeople.

    Raises:
        CrowdGaussianError: a package or the body model is missing, or the folder holds nobody.
    """
    from ..body import load_body
    from ..body.load import find_smplx
    from ..weights import local_path

    try:
        from ..synthetic.scans import MeshPeople, body_of, read_hands
    except ImportError as error:
        raise MissingFileError(
            'Scans are read with trimesh: pip install "crowdgaussian[train]".'
        ) from error
    if body_of(folder) == "open":
        body = load_body("open")
        return MeshPeople(folder, body, None, whole), body
    found = body_file or local_path("smplx")
    if found is None:
        raise MissingFileError(
            f"The bodies of {folder} are SMPL-X: give --body SMPLX_MALE.npz or SMPLX_NEUTRAL.npz, "
            "the one they were fitted with, from smpl-x.is.tue.mpg.de (not for commercial use)."
        )
    found = find_smplx(found)
    body = load_body("smplx", found)
    return MeshPeople(folder, body, read_hands(found), whole), body

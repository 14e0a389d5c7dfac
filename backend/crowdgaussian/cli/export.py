# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian export | view: splats for other programs and a page for a browser, no Blender."""

import argparse
import sys
import threading
from pathlib import Path

from crowdgaussian_shared.errors import SettingError

_FORMATS = ("ply", "spz", "sog", "splat", "glb", "gltf", "usd", "usda", "usdc")
_AXES = ("opencv", "scene", "blender")  # axes.Frame, which numpy makes heavy for --help


def add_export_command(commands: argparse._SubParsersAction) -> None:
    """Adds `export`."""
    parser = commands.add_parser(
        "export", help="scene folder or splat files -> PLY, SPZ, SOG, glTF, USD ..."
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SCENE_OR_FILE",
        help="a scene folder, or splat files (docs/export.md), which are joined",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="what to write (default: crowd.FORMAT in the scene folder); with --motion, unless "
        "it is glTF, the folder of the frames",
    )
    parser.add_argument("--format", choices=_FORMATS, help="default: FILE's ending")
    parser.add_argument(
        "--person", default="all", metavar="N", help="index of one person, or all (default)"
    )
    parser.add_argument(
        "--separate", action="store_true", help="one file for each person, FILE-NNN"
    )
    _add_choices(parser)
    _add_moving(parser)
    parser.set_defaults(run=_export)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--axes",
        choices=_AXES,
        default="opencv",
        help="of a PLY, SOG or .splat that is written (default: opencv); the others are y up",
    )
    parser.add_argument(
        "--source-axes",
        choices=_AXES,
        default="opencv",
        help="of a file that is read (default: opencv); SPZ and glTF are y up",
    )
    parser.add_argument(
        "--spz-version", type=int, choices=(2, 3, 4), default=3, help="of an SPZ (default: 3)"
    )


def _add_moving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rig", action="store_true", help="glTF: with bones and weights")
    parser.add_argument(
        "--motion",
        type=Path,
        metavar="FILE",
        help="everybody does this from where they stand (.npz, .bvh, LHM folder): a rig with an "
        "animation in glTF, else a file for each frame",
    )
    parser.add_argument(
        "--fps", type=float, metavar="N", help="frames a second of the motion (default: its own)"
    )


def _export(arguments: argparse.Namespace) -> int:
    from ..export import ExportJob, export_files

    job = ExportJob(
        tuple(arguments.sources), _target(arguments), arguments.format, _person(arguments.person),
        arguments.separate, arguments.axes, arguments.source_axes, arguments.rig,
        arguments.motion, arguments.fps, arguments.spz_version,
    )  # fmt: skip
    export_files(
        job,
        report=lambda path: print(path, flush=True),
        warn=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    return 0


def _target(arguments: argparse.Namespace) -> Path:
    if arguments.out is not None:
        return arguments.out
    source = arguments.sources[0]
    if not source.is_dir() or arguments.format is None:
        raise SettingError("Say what to write with -o FILE; see `crowdgaussian export --help`.")
    return source / f"crowd.{arguments.format}"


def _person(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise SettingError(f"--person {text} is neither a number nor all.")
    return int(text)


# A page to look at, on this computer or as a file to pass on


def add_view_command(commands: argparse._SubParsersAction) -> None:
    """Adds `view`."""
    parser = commands.add_parser("view", help="scene folder -> a page in the browser")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--export", type=Path, metavar="PAGE.html", help="write one file that opens by itself"
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="of this computer (default: a free one)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only say the address")
    parser.add_argument(
        "--motion",
        type=Path,
        metavar="FILE",
        help="what everybody can play (.npz, .bvh, LHM folder)",
    )
    parser.add_argument(
        "--fps", type=float, metavar="N", help="frames a second of the motion (default: its own)"
    )
    parser.set_defaults(run=_view)


def _view(arguments: argparse.Namespace) -> int:
    import webbrowser

    from crowdgaussian_shared.scene.folder import SceneFolder

    from ..export.files import motion_file
    from ..export.view import HOST, open_server, write_page

    folder = SceneFolder.open(arguments.out)
    motion = None if arguments.motion is None else motion_file(arguments.motion, arguments.fps)
    if arguments.export is not None:
        write_page(folder, arguments.export, motion)
        print(arguments.export)
        return 0
    with open_server(arguments.out, arguments.port, motion) as server:
        address = f"http://{HOST}:{server.server_port}/"
        print(address, "(Ctrl-C ends it)", flush=True)
        if not arguments.no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0

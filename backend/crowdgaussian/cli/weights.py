# SPDX-License-Identifier: Apache-2.0
"""crowdgaussian weights list | fetch | verify | path: the model files of every stage."""

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import DamagedFileError, MissingFileError, SettingError

from ..weights import (
    CATALOGUE,
    OPEN_COMPLETION,
    OPEN_REFINER,
    TABLE,
    WeightFile,
    find,
    require,
    weights_folder,
)
from ..weights.catalogue import RemoteWeights, Source
from ..weights.local import PROMPTHMR, absent, files_of, how, local_path
from .serve import STOPPED, wait_for_parent

if TYPE_CHECKING:
    from ..weights.hub import Verdict


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `weights` to the command line."""
    parser = commands.add_parser("weights", help="list, fetch and check model files")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every model file: purpose, size, licence, state")
    listing.add_argument("--json", action="store_true", help="machine-readable")
    listing.set_defaults(run=_list)
    getting = actions.add_parser("fetch", help="download models into the weights folder")
    getting.add_argument("names", nargs="*", metavar="NAME")
    getting.add_argument("--preset", metavar="NAME", help="all that a preset lacks, checked")
    getting.add_argument(
        "--stop-with-parent", action="store_true", help="stop when standard input ends"
    )
    getting.set_defaults(run=_fetch)
    checking = actions.add_parser("verify", help="compare sizes and hashes")
    checking.add_argument("names", nargs="*", metavar="NAME", help="default: all that are there")
    checking.set_defaults(run=_verify)
    where = actions.add_parser("path", help="where a model lies")
    where.add_argument("name", metavar="NAME")
    where.set_defaults(run=_path)


def _bundled() -> list[WeightFile]:
    return [
        *(file for files in CATALOGUE.values() for file in files),
        OPEN_COMPLETION,
        OPEN_REFINER,
    ]


def _row(entry: WeightFile | RemoteWeights) -> dict:
    row = {
        "name": entry.name,
        "stage": entry.stage,
        "purpose": entry.purpose,
        "licence": entry.licence,
        "commercial": entry.commercial,
    }
    if isinstance(entry, WeightFile):
        return row | {
            "source": entry.source,
            "revision": entry.version,
            "bytes": 0,
            "megabytes": 0,
            "blake2b": entry.digest,
            "sha256": "",
            "gated": "",
            "how": "bundled",
            "here": True,
        }
    path = local_path(entry.name)
    return row | {
        "source": entry.page,
        "revision": entry.revision,
        "bytes": entry.size,
        "megabytes": entry.megabytes,
        "blake2b": "",
        "sha256": " ".join(file.sha256 for file in entry.files if file.sha256),
        "gated": entry.gated,
        "how": str(entry.source),
        "here": path is not None,
        "files": [file.name for file in entry.files],
        "instructions": entry.instructions,
    }


def _list(arguments: argparse.Namespace) -> int:
    entries: tuple[WeightFile | RemoteWeights, ...] = (*_bundled(), *TABLE.values())
    rows = [_row(entry) for entry in entries]
    if arguments.json:
        print(json.dumps({"folder": str(weights_folder()), "weights": rows}, indent=1))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("name", "used by", "purpose", "size", "licence", "commercial", "state"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            row["name"],
            row["stage"],
            row["purpose"],
            _size(row),
            row["licence"],
            "yes" if row["commercial"] else "no",
            _state(row),
        )
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(table)
    print(f"fetched files go to {weights_folder()}; a hash is known only where --json shows one")
    return 0


def _size(row: dict) -> str:
    if row["how"] == "bundled":
        return "bundled"
    return f"{row['megabytes']:,} MB" if row["megabytes"] else "unknown"


def _state(row: dict) -> str:
    if row["here"]:
        return "here"
    if row["how"] == "manual":
        return "by hand"
    return "gated" if row["gated"] else "not fetched"


def _fetch(arguments: argparse.Namespace) -> int:
    entries = [find(name) for name in arguments.names]
    if arguments.preset:
        from ..pipeline.config import preset
        from ..pipeline.stages import networks_of

        entries += networks_of(preset(arguments.preset))
        if not entries:
            print(f"The preset {arguments.preset} needs nothing that is not here already.")
            return 0
    if not entries:
        raise SettingError("Name what to fetch: names from `weights list`, or --preset NAME.")
    if arguments.stop_with_parent:
        leave = partial(os._exit, STOPPED)  # partial files stay, for the next time
        threading.Thread(target=wait_for_parent, args=(leave,), daemon=True).start()
    _say_terms(entries)
    _fetch_all(entries)
    return _check(entries) if arguments.preset else 0


def _say_terms(entries: list[RemoteWeights]) -> None:
    """Sizes, and every licence once."""
    by_licence: dict[tuple[str, bool], list[RemoteWeights]] = {}
    for entry in entries:
        by_licence.setdefault((entry.licence, entry.commercial), []).append(entry)
    for (licence, commercial), same in by_licence.items():
        named = ", ".join(f"{entry.name} ({entry.size_in_words})" for entry in same)
        uses = "free to use" if commercial else "results are not for commercial use"
        print(f"{licence}; {uses}: {named}", file=sys.stderr)
    size = sum(entry.megabytes for entry in absent(entries))
    whole = sum(entry.megabytes for entry in entries)
    print(f"{size:,} of {whole:,} MB to fetch, into {weights_folder()}", file=sys.stderr)


def _fetch_all(entries: list[RemoteWeights]) -> None:
    """Everything that a program may fetch; then what is to be got by hand is said at once.

    Raises:
        CrowdGaussianError: a download fails, or something is to be got by hand.
    """
    from ..weights.hub import check_room, fetch

    by_hand = [entry for entry in absent(entries) if entry.source is Source.MANUAL]
    check_room(entries)
    for entry in entries:
        if entry not in by_hand:
            print(local_path(entry.name) or fetch(entry), flush=True)
    if by_hand:
        ways = "; ".join(f"for '{entry.name}' {how(entry)}" for entry in by_hand)
        raise MissingFileError(f"The rest cannot be fetched automatically: {ways}.")


def _check(entries: list[RemoteWeights]) -> int:
    """Compares files with what is published, or with what was fetched; prints the verdicts.

    Raises:
        DamagedFileError: one is wrong.
    """
    from ..weights.hub import verify

    return _print_verdicts([verify(entry) for entry in entries])


def _verify(arguments: argparse.Namespace) -> int:
    from ..weights.hub import verify, verify_packaged

    if arguments.names:
        verdicts = [verify(find(name)) for name in arguments.names]
    else:
        present = [e for e in TABLE.values() if any(path.is_file() for path in files_of(e))]
        verdicts = [verify_packaged(file) for file in _bundled()] + [verify(e) for e in present]
    return _print_verdicts(verdicts)


def _print_verdicts(verdicts: list["Verdict"]) -> int:
    for verdict in verdicts:
        print(f"{verdict.name}: {verdict.state}{f' ({verdict.detail})' if verdict.detail else ''}")
    bad = [v.name for v in verdicts if v.state in ("wrong", "missing")]
    if bad:
        raise DamagedFileError(
            f"{', '.join(bad)} cannot be used; delete what is wrong and fetch it again."
        )
    return 0


def _path(arguments: argparse.Namespace) -> int:
    print(require(arguments.name))
    return 0


# What the presets open-large and paper are made of, and what of it this machine lacks

_PAPER = (  # part, and the networks that serve, the paper's own first
    ("body", ("smplx",)),
    ("masks", ("sam-vit-h", "sam2.1-large", "sam3", "sam-vit-l", "sam-vit-b")),
    ("appearance", ("lhm-500m-hf", "lhm-1b-hf", "lhm-mini")),
    ("image encoder", ("sapiens-1b",)),
    ("query points", ("lhm-points-40000", "lhm-points-20000")),
    ("refiner's base", ("sd-turbo", "sd-2.1-base")),
)
_PEOPLE = ("multihmr-896-l", "multihmr-672-l", "multihmr-672-b", "multihmr-672-s")


@dataclass(frozen=True)
class PresetPart:
    """One part of a preset."""

    name: str
    there: bool
    found: str  # with the licence
    remedy: str = ""


def large_parts() -> Iterator[PresetPart]:
    """The networks of open-large, in one line."""
    from ..pipeline.config import preset
    from ..pipeline.stages import networks_of

    entries = networks_of(preset("open-large"))
    lacking = absent(entries)
    named = ", ".join(f"{entry.name} ({entry.size_in_words})" for entry in lacking or entries)
    licences = ", ".join(dict.fromkeys(_terms(entry) for entry in entries))
    remedy = "`crowdgaussian weights fetch --preset open-large` gets them." if lacking else ""
    found = f"{'lacks ' if lacking else ''}{named}; {licences}."
    yield PresetPart("its networks", not lacking, found, remedy)


def paper_parts() -> Iterator[PresetPart]:
    """Every part of it, licence by licence."""
    if os.environ.get(PROMPTHMR):
        found = f"PromptHMR, by ${PROMPTHMR}; {_terms(find('prompthmr'))}."
        yield PresetPart("people", True, found)
    else:
        yield _part("people", _PEOPLE)
        found = f"${PROMPTHMR} is not set, so Multi-HMR finds people; "
        found += f"{_terms(find('prompthmr'))}."
        remedy = (
            'Set it to "PYTHON examples/people/prompthmr.py {photo} {out}", see docs/people.md.'
        )
        yield PresetPart("the paper's people", False, found, remedy)
    for name, choices in _PAPER:
        yield _part(name, choices)
    for name, verb in (("LORM's adapters", "lorm"), ("crowd refiner", "refiner --preset paper")):
        remedy = f"`crowdgaussian train {verb}` makes them; see docs/training.md."
        yield PresetPart(name, False, "Trained by you: nobody publishes any.", remedy)


def _part(name: str, choices: tuple[str, ...]) -> PresetPart:
    here = next((choice for choice in choices if local_path(choice) is not None), None)
    entry = find(here or choices[0])
    if here:
        return PresetPart(name, True, f"{entry.name}; {_terms(entry)}.")
    way = how(entry)
    return PresetPart(
        name, False, f"lacks {entry.name}; {_terms(entry)}.", f"{way[0].upper()}{way[1:]}."
    )


def _terms(entry: RemoteWeights) -> str:
    return entry.licence + ("" if entry.commercial else ", not for commercial use")

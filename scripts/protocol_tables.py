#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/protocol.md, made from the dataclasses that are the protocol.

    python scripts/protocol_tables.py          prints them
    python scripts/protocol_tables.py --write  puts them into docs/protocol.md

In the document each table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

import inspect
import re
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "shared"))

from crowdgaussian_shared.protocol import messages  # noqa: E402
from crowdgaussian_shared.protocol.codec import schema_rows  # noqa: E402

DOCUMENT = ROOT / "docs/protocol.md"
PARTS = ("Job", "Progress", "Artifact", "Preset", "Model", "Device", "Limits")
_BLOCK = re.compile(r"<!-- table (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def tables() -> dict[str, str]:
    """Markdown by message type or by name of a part."""
    classes = {name: getattr(messages, name) for name in PARTS} | messages.MESSAGES
    return {name: _table(name, cls) for name, cls in classes.items()}


def fill(text: str) -> str:
    """The document with every table as it is now."""
    made = tables()
    return _BLOCK.sub(lambda block: _wrap(block["name"], made[block["name"]]), text)


def names(text: str) -> list[str]:
    """The tables that the document has, in order."""
    return [block["name"] for block in _BLOCK.finditer(text)]


def _table(name: str, cls: type) -> str:
    meanings = _meanings(cls)
    lines = ["| Field | Type | Without it | Meaning |", "|---|---|---|---|"]
    for field, (label, kind, required) in zip(fields(cls), schema_rows(cls), strict=True):
        without = "refused" if required else _default(field)
        lines.append(f"| `{label}` | {kind} | {without} | {meanings.get(label, '')} |")
    payload = "\n\nOne payload frame: the bytes." if messages.PAYLOADS.get(name) else ""
    return "\n".join(lines) + payload


def _default(field: Field) -> str:
    if field.default is MISSING:
        return "empty"
    return {"": "empty", (): "empty", None: "null"}.get(field.default, f"{field.default}")


def _meanings(cls: type) -> dict[str, str]:
    """The comment behind each field in the source."""
    lines = inspect.getsource(cls).splitlines()
    found = (re.match(r" {4}(\w+):.*?  # (.*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def _wrap(name: str, table: str) -> str:
    return f"<!-- table {name} -->\n{table}\n<!-- end -->"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(fill(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        for title, markdown in tables().items():
            print(f"### {title}\n\n{markdown}\n")

# SPDX-License-Identifier: Apache-2.0
"""docs/protocol.md says what the code does."""

import importlib.util
import re
from pathlib import Path
from typing import get_args

from crowdgaussian_shared.protocol import PROTOCOL_MAJOR, PROTOCOL_MINOR, messages

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")


def load_script():
    spec = importlib.util.spec_from_file_location(
        "protocol_tables", ROOT / "scripts/protocol_tables.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_dataclasses():
    script = load_script()
    assert script.fill(TEXT) == TEXT, "run `python scripts/protocol_tables.py --write`"


def test_every_message_and_part_has_a_table():
    script = load_script()
    assert sorted(script.names(TEXT)) == sorted(script.tables())


def test_every_error_code_is_explained():
    part = TEXT.split("| Code | Meaning |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([a-z-]+)`", part, re.M) == list(get_args(messages.ErrorCode))


def test_the_version_is_the_code_s():
    assert f"Version **{PROTOCOL_MAJOR}.{PROTOCOL_MINOR}**" in TEXT

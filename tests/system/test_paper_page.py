# SPDX-License-Identifier: Apache-2.0
"""docs/paper.md names functions and tests; all of them are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(crowdgaussian(?:\.\w+)+)`", PAGE)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@cache
def top_level(path: Path) -> set[str]:
    """What a file defines: functions, classes and constants."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def exists(name: str) -> bool:
    module, _, last = name.rpartition(".")
    path = ROOT / "backend" / Path(*module.split(".")).with_suffix(".py")
    return path.is_file() and last in top_level(path)


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "Paper"]


def test_functions_of_the_page_exist():
    assert len(NAMES) > 40
    assert [name for name in NAMES if not exists(name)] == []
    assert not exists("crowdgaussian.lorm.inputs.no_such_crop") and not exists("crowdgaussian.gone")


def test_tests_of_the_page_exist():
    assert len(TESTS) > 40
    gone = [(p, n) for p, n in TESTS if not (ROOT / p).is_file() or n not in top_level(ROOT / p)]
    assert gone == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_row_names_a_function_and_a_test(row):
    assert len(row) == 4
    assert re.search(r"`crowdgaussian\.", row[1]) and "`tests/" in row[2]

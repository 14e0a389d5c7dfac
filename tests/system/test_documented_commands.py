# SPDX-License-Identifier: Apache-2.0
"""Every command line of the documentation is one that the program takes."""

import re
import shlex
from pathlib import Path

from crowdgaussian.cli.main import _parser
from crowdgaussian_shared.errors import SettingError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WRAPPER = re.compile(r"^(accelerate launch|torchrun) .*-m (?=crowdgaussian )")


def commands(page):
    """The lines of a page's code blocks that call crowdgaussian, continued ones joined."""
    for block in re.findall(r"```(?:sh|bash)?\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = WRAPPER.sub("", line.strip())
            if line.startswith("crowdgaussian ") and "..." not in line and "[" not in line:
                yield line


def refused(line):
    """What the program says against a line, empty where it takes it."""
    said = re.split(r" {3,}| # | \| | > ", line)[0]  # what follows explains, or takes the output
    try:
        _parser().parse_args(shlex.split(said)[1:])
    except SettingError as error:
        return f"{line}\n  {error}"
    return ""


def test_every_documented_command_is_taken():
    lines = {page.name: list(commands(page)) for page in PAGES}
    assert sum(map(len, lines.values())) > 60
    assert min(len(lines[name]) for name in ("training.md", "evaluation.md", "README.md")) > 2
    found = [refused(line) for page in lines.values() for line in page]
    assert [words for words in found if words] == []
    assert "unrecognized" in refused("crowdgaussian weights list --wings").lower()

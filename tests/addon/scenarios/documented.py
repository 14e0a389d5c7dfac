# SPDX-License-Identifier: Apache-2.0
"""The script of docs/scripting.md, as it stands there."""

import runpy
import sys

from inside import GIVEN, tell

sys.argv = ["blender", "--", GIVEN["backend"], GIVEN["photos"], GIVEN["out"]]
try:
    runpy.run_path(GIVEN["script"], run_name="__main__")
except SystemExit as end:
    tell(code=end.code)

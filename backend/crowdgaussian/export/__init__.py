# SPDX-License-Identifier: Apache-2.0
"""People of a scene folder, or any splat files, as files for other programs."""

from .files import FORMATS as FORMATS
from .files import ExportJob as ExportJob
from .files import export_files as export_files

# SPDX-License-Identifier: Apache-2.0
"""People of a scene folder, or any splat PLY, as PLY, SPZ and glTF with KHR_gaussian_splatting."""

from .files import FORMATS as FORMATS
from .files import ExportJob as ExportJob
from .files import export_files as export_files
from .files import write_gltf as write_gltf
from .files import write_spz as write_spz

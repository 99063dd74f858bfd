"""Datasets of the AD-NeRF / ER-NeRF / GaussianTalker / InsTaG family: read into ours, written from
ours.
"""

from being.interop.family.exporter import SYSTEMS, Exported, export_family
from being.interop.family.importer import import_family
from being.interop.family.pictures import Imported

__all__ = ["SYSTEMS", "Exported", "Imported", "export_family", "import_family"]

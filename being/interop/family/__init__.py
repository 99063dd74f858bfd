"""Import and export of datasets in the layout of AD-NeRF, ER-NeRF, GaussianTalker and InsTaG."""

from being.interop.family.export_steps import SYSTEMS, ExportReport
from being.interop.family.exporter import export_family
from being.interop.family.import_steps import ImportReport
from being.interop.family.importer import import_family

__all__ = ["SYSTEMS", "ExportReport", "ImportReport", "export_family", "import_family"]

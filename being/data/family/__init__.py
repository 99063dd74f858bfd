"""Datasets of the AD-NeRF / ER-NeRF / GaussianTalker / InsTaG family: read into ours, written from ours."""

from being.data.family.importer import Imported, import_family

__all__ = ["Imported", "import_family"]

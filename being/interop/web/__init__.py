"""The web avatar: a static page and a bundle that a browser renders by itself."""

from being.interop.web.exporter import WebExport, export_web

__all__ = ["WebExport", "export_web"]

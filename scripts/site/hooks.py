"""Hooks of mkdocs: pages that are generated, and links that lead out of `docs/`.

The pages of `docs/` are read on the hosting site too, so they link to files of the repository. Here
these links lead to the pages that are made of those files.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts.site.error_list import error_page
from scripts.site.licences import licence_page

ROOT = Path(__file__).parents[2]
EXAMPLES = "examples"
# Files of the repository that become pages of the site.
COPIED = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
COPIED["CHANGELOG.md"] = "changelog.md"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
# A cell of a table keeps a bar by a backslash; Python-Markdown shows it inside code.
CODE_IN_TABLE = re.compile(r"`[^`\n]*\\\|[^`\n]*`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: (ROOT / source).read_text("utf-8") for source, page in COPIED.items()}
    pages["examples.md"] = examples_page()
    pages["licences.md"] = licence_page()
    pages["errors.md"] = error_page(ROOT / "being")
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The text with links of the site, and bars in code of tables as they are."""
    source = next((file for file, name in COPIED.items() if name == page.file.src_uri), "")
    folder = PurePosixPath() if source else PurePosixPath("docs")
    lines = []
    for line in markdown.split("\n"):
        if line.startswith("|"):
            line = CODE_IN_TABLE.sub(lambda found: code_with_bars(found[0]), line)
        lines.append(LINK.sub(lambda found: site_link(found, folder), line))
    return "\n".join(lines)


def code_with_bars(code: str) -> str:
    """Code of a table's cell as HTML, with its bars."""
    text = code.strip("`").replace("\\|", "|")
    for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(letter, name)
    return f"<code>{text}</code>"


def site_link(found: re.Match[str], folder: PurePosixPath) -> str:
    """A link of a page in `folder` of the repository, as a link of the site."""
    before, target, anchor, after = found.group(1), found.group(2), found.group(3) or "", found[4]
    if ":" in target:
        return found[0]
    path = _resolved(folder / target)
    if path.parts[:1] == ("docs",):
        target = str(PurePosixPath(*path.parts[1:]))
    elif str(path) in COPIED:
        target = COPIED[str(path)]
    elif path.parts[:1] == (EXAMPLES,):
        target, anchor = "examples.md", f"#{path.name.replace('.', '')}" if path.suffix else ""
    return f"{before}{target}{anchor}{after}"


def _resolved(path: PurePosixPath) -> PurePosixPath:
    """The path without `..`."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return PurePosixPath(*parts)


def examples_page() -> str:
    """The programs of `examples/`, each with its code."""
    parts = [
        "# Examples in Python\n\nThe programs of `examples/` run as they are; "
        "`tests/examples/test_examples.py` runs them."
    ]
    for file in sorted((ROOT / EXAMPLES).glob("*.py")):
        parts.append(f"## {file.name}\n\n```python\n{file.read_text('utf-8').strip()}\n```")
    return "\n\n".join(parts) + "\n"

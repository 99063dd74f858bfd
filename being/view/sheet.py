"""The picture of a view: `view.png`, with everything on one sheet."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from being.interop.export_files import MARK
from being.view import drawing
from being.view.content import Content, Picture

SIDE, GAP, MARGIN = 220, 8, 32  # px
TITLE_PX, HEADING_PX, TEXT_PX, LABEL_PX = 34, 20, 16, 14
WIDTH = 2 * MARGIN + len(drawing.YAWS) * (SIDE + GAP) - GAP
PATH_HEIGHT = 200  # px, of a drawing of the camera path


def sheet(content: Content, turntables: dict[str, list[Picture]]) -> Image.Image:
    """The sheet. turntables: rows of pictures of SIDE px by their heading."""
    paper = _Paper()
    paper.text(content.name, TITLE_PX, drawing.INK)
    for line in notes(content):
        paper.text(line, TEXT_PX, drawing.QUIET)
    for heading, pictures in turntables.items():
        paper.row(heading, pictures)
    if content.planes:
        heading = "Tri-planes: mean absolute value over the channels, dark to light"
        paper.row(heading, [p for row in content.planes for p in row], smooth=False)
    if content.frames:
        paper.row("Frames", content.frames)
    half = (WIDTH - 2 * MARGIN - GAP) // 2
    paths = drawing.camera_path(content, half, PATH_HEIGHT)
    paper.row("Camera path, from blue to red; the head is on the left", paths, half, PATH_HEIGHT)
    return paper.image()


def notes(content: Content) -> list[str]:
    """The sentences below the title: what it is, facts, AI-generated, consent."""
    origin = "AI-generated from footage of a person" if content.generated else "Recorded footage"
    return [*content.facts, f"{origin}. {content.consent_note}"]


def write_sheet(path: Path, content: Content, image: Image.Image) -> None:
    """Write the sheet as PNG with its marks. Raises OSError."""
    facts = PngImagePlugin.PngInfo()
    marks = content.marks
    facts.add_text("Comment", f"{MARK}. {content.consent_note}" if marks is None else marks.comment)
    if marks is not None:
        facts.add_text("Description", marks.facts)
        facts.add_itxt("XML:com.adobe.xmp", marks.xmp)
    image.save(path, "PNG", pnginfo=facts)
    if marks is not None and marks.seal is not None:
        marks.seal(path)


class _Paper:
    """Lines of text and rows of pictures, one below the other."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (WIDTH, 4000), drawing.PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._top = MARGIN

    def text(self, text: str, size: int, colour: tuple[int, ...], gap: float = 0.45) -> None:
        """Lines of text over the whole width; letters that the font lacks become "?"."""
        font = ImageFont.load_default(size)
        for line in _wrapped(_known_letters(text), font, WIDTH - 2 * MARGIN):
            self._draw.text((MARGIN, self._top), line, colour, font)
            self._top += round(size * (1 + gap))

    def row(
        self,
        heading: str,
        pictures: list[Picture],
        width: int = SIDE,
        height: int = SIDE,
        smooth: bool = True,
    ) -> None:
        """A heading and pictures in boxes of width x height px with their labels below."""
        self._top += HEADING_PX
        self.text(heading, HEADING_PX, drawing.INK, 0.6)
        font = ImageFont.load_default(LABEL_PX)
        columns = (WIDTH - 2 * MARGIN + GAP) // (width + GAP)
        for k, picture in enumerate(pictures):
            if k and k % columns == 0:
                self._top += height + 2 * LABEL_PX + GAP
            left = MARGIN + k % columns * (width + GAP)
            shown = _fitted(Image.fromarray(picture.pixels), width, height, smooth)
            self._image.paste(shown, (left, self._top))
            label = _known_letters(picture.label)
            at = (left, self._top + height + LABEL_PX // 3)
            self._draw.text(at, label, drawing.QUIET, font)
        self._top += height + 2 * LABEL_PX

    def image(self) -> Image.Image:
        """What is drawn so far."""
        return self._image.crop((0, 0, WIDTH, self._top + MARGIN))


def _fitted(image: Image.Image, width: int, height: int, smooth: bool) -> Image.Image:
    """The image in a box of width x height px, its sides in proportion."""
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    box = Image.new("RGB", (width, height), drawing.PAPER)
    box.paste(image.resize(size, method), ((width - size[0]) // 2, (height - size[1]) // 2))
    return box


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[str]:
    """The text in lines of at most `width` px; a longer word stays whole."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _known_letters(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")

"""HTML elements: text, images, dot plots."""

import base64
import io
import math
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element.

    Args:
        name: Such as ``p``.
        children: Elements, or anything else, whose text is escaped; None is left out.
        attributes: ``class_`` stands for ``class``, ``data_key`` for ``data-key``; True for an attribute without value, None and
            False for none.
    """
    start = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip('_').replace('_', '-')
        start += f' {key}' if value is True else f' {key}="{escape(str(value))}"'
    if name in ('img', 'meta'):
        return Markup(f'<{start}>')
    return Markup(f'<{start}>{join(*children)}</{name}>')


def join(*parts: object) -> Markup:
    """Elements and texts one after the other."""
    return Markup(''.join(part if isinstance(part, Markup) else escape(str(part)) for part in parts if part is not None))


# two or more names after a slash at the start of a word; so neither fog/mIoU, nor an address with ://, nor a fraction
ABSOLUTE = re.compile(r'(?<![\w.~:/\-])~?(?:/[^\s/\'",;:=()\[\]{}<>|]+){2,}/?')


def short_paths(text: str, out: Path | None = None) -> str:
    """Absolute paths as the run's folder and the file; those below the suite's folder relative to it.

    Args:
        text: With or without paths.
        out: The suite's folder.
    """
    if out is not None:
        text = text.replace(f'{out}/', '')
    return ABSOLUTE.sub(lambda found: '/'.join(found[0].rstrip('/').split('/')[-2:]), text)


def data_uri(content: bytes, kind: str) -> str:
    """A file's content as an address.

    Args:
        content: Of the file.
        kind: Such as ``webp``.
    """
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def photo(image: Image.Image, alt: str, width: int = 1400) -> Markup:
    """A photo or a plot as WebP, at most ``width`` pixels wide."""
    image = image.convert('RGB')
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, 'WEBP', quality=82, method=4)
    return _element(image, data_uri(buffer.getvalue(), 'webp'), alt)


def label_map(ids: np.ndarray, palette: np.ndarray, alt: str) -> Markup:
    """Class ids as a PNG with a palette.

    Args:
        ids: ``(H, W)``; ids without a colour are black.
        palette: ``(C, 3)``, RGB, 0-255.
        alt: What is seen.
    """
    ids = np.where((ids >= 0) & (ids < len(palette)), ids, len(palette)).astype(np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(np.append(np.asarray(palette, np.uint8), [[0, 0, 0]], 0).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, 'PNG', optimize=True)
    return _element(image, data_uri(buffer.getvalue(), 'png'), alt, 'map')


def _element(image: Image.Image, source: str, alt: str, class_: str | None = None) -> Markup:
    # the size keeps the page from jumping while pictures are decoded
    return tag('img', src=source, alt=alt, width=image.width, height=image.height, class_=class_)


class Shape(NamedTuple):
    """Corners around (0, 0), within a radius of about 1, none for a circle; and whether only the outline has the colour."""

    corners: tuple[tuple[float, float], ...]
    hollow: bool = False


def _star(points: int, inner: float) -> tuple[tuple[float, float], ...]:
    turns = [(math.pi * i / points, inner if i % 2 else 1.2) for i in range(2 * points)]
    return tuple((radius * math.sin(turn), -radius * math.cos(turn)) for turn, radius in turns)


# Okabe and Ito's colours without black and yellow, which vanish on a dark and on a light page, and a grey
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8a8a8a')
SQUARE = ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
TRIANGLE = ((0, -1), (1, 0.8), (-1, 0.8))
DIAMOND = ((0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0))
POINTING_DOWN = ((0, 1), (1, -0.8), (-1, -0.8))
ARM = 0.38
PLUS = ((-ARM, -1.1), (ARM, -1.1), (ARM, -ARM), (1.1, -ARM), (1.1, ARM), (ARM, ARM), (ARM, 1.1), (-ARM, 1.1), (-ARM, ARM),
        (-1.1, ARM), (-1.1, -ARM), (-ARM, -ARM))  # fmt: skip
CROSS = tuple(((x - y) * 0.5**0.5, (x + y) * 0.5**0.5) for x, y in PLUS)
STAR = _star(5, 0.5)
# no hollow circle: such a ring is the figure of the paper
SHAPES = (
    *map(Shape, ((), SQUARE, TRIANGLE, DIAMOND, POINTING_DOWN, PLUS, CROSS, STAR)),
    *(Shape(corners, hollow=True) for corners in (SQUARE, TRIANGLE, DIAMOND, POINTING_DOWN)),
)


class Mark(NamedTuple):
    """Colour, and number of the shape."""

    colour: str
    shape: int


def marks(titles: Iterable[str]) -> dict[str, Mark]:
    """Title of a method -> its mark: seven colours as circles, then as each of the other shapes; 84 in all, then from the start.

    Methods of one title, on several backbones, share a mark.
    """
    return {
        title: Mark(COLOURS[i % len(COLOURS)], i // len(COLOURS) % len(SHAPES)) for i, title in enumerate(dict.fromkeys(titles))
    }


def draw_mark(mark: Mark, x: float, y: float, radius: float = 5.5) -> Markup:
    """The mark as a part of an SVG picture, its centre at (x, y)."""
    shape = SHAPES[mark.shape]
    style = dict(fill=mark.colour, stroke='currentColor', stroke_width=0.8)
    if shape.hollow:
        style = dict(fill='var(--page)', stroke=mark.colour, stroke_width=2.2)
    if not shape.corners:
        return tag('circle', cx=f'{x:.1f}', cy=f'{y:.1f}', r=radius, **style)
    points = ' '.join(f'{x + radius * dx:.1f},{y + radius * dy:.1f}' for dx, dy in shape.corners)
    return tag('polygon', points=points, **style)


def swatch(mark: Mark) -> Markup:
    """The mark in a line of text."""
    return tag('svg', draw_mark(mark, 8, 8), class_='swatch', viewBox='0 0 16 16', aria_hidden='true')

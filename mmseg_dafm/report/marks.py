"""A colour and a shape for every method, the same wherever the page shows it."""

from collections.abc import Iterable
from typing import NamedTuple

from mmseg_dafm.report.markup import Markup, tag

# Okabe and Ito's colours without black and yellow, which vanish on a dark and on a light page, and a grey
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8a8a8a')
# corners around (0, 0), within a radius of 1; a circle has none
SQUARE = ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
TRIANGLE = ((0, -1), (1, 0.8), (-1, 0.8))
DIAMOND = ((0, -1.15), (1.15, 0), (0, 1.15), (-1.15, 0))
SHAPES = ((), SQUARE, TRIANGLE, DIAMOND)


class Mark(NamedTuple):
    """Colour, and number of the shape."""

    colour: str
    shape: int


def marks(titles: Iterable[str]) -> dict[str, Mark]:
    """Title of a method -> its mark: seven colours as circles, then as squares, triangles and diamonds, then from the start.

    Methods of one title, on several backbones, share a mark.
    """
    return {
        title: Mark(COLOURS[i % len(COLOURS)], i // len(COLOURS) % len(SHAPES)) for i, title in enumerate(dict.fromkeys(titles))
    }


def draw_mark(mark: Mark, x: float, y: float, radius: float = 5.5) -> Markup:
    """The mark as a part of an SVG picture, its centre at (x, y)."""
    style = dict(fill=mark.colour, stroke='currentColor', stroke_width=0.8)
    if not SHAPES[mark.shape]:
        return tag('circle', cx=f'{x:.1f}', cy=f'{y:.1f}', r=radius, **style)
    points = ' '.join(f'{x + radius * dx:.1f},{y + radius * dy:.1f}' for dx, dy in SHAPES[mark.shape])
    return tag('polygon', points=points, **style)


def swatch(mark: Mark) -> Markup:
    """The mark in a line of text."""
    return tag('svg', draw_mark(mark, 8, 8), class_='swatch', viewBox='0 0 16 16', aria_hidden='true')

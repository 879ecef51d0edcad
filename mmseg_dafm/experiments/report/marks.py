"""A colour and a shape for every method, the same wherever the page shows it."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from mmseg_dafm.experiments.report.markup import Markup, tag


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

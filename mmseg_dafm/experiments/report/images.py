"""Pictures inside a page: data URIs in compact formats."""

import base64
import io

import numpy as np
from PIL import Image

from mmseg_dafm.experiments.report.markup import Markup, tag


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

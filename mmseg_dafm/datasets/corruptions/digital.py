"""Changes of light and colour, and JPEG: brightness, contrast, saturation, compression.

Each function takes x in [0, 1] as float32 (H, W, 3), BGR, and returns the same, not yet clipped. Source: Hendrycks and
Dietterich (2019) for the definitions and the five strengths.
"""

import cv2
import numpy as np

BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
# factor and offset of the saturation: 1 and 2 make the image pale, 3 to 5 make it garish
SATURATION = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
JPEG_QUALITY = (25, 18, 15, 10, 7)


def brightness(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Add c to HSV's value ``V = max(B, G, R)``, up to 1; hue and saturation stay, so every channel scales by V'/V."""
    value = x.max(2, keepdims=True)
    brighter = np.minimum(value + np.float32(BRIGHTNESS[severity - 1]), 1)
    return np.where(value > 0, x * (brighter / np.maximum(value, 1e-6)), brighter)


def contrast(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``m + c (x - m)`` with the mean m of each channel of the image."""
    mean = x.mean((0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return mean + np.float32(CONTRAST[severity - 1]) * (x - mean)


def saturate(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """``S' = min(a S + b, 1)`` for HSV's saturation ``S = (V - min) / V``; hue and value stay.

    A channel is ``V - (V - x) S' / S``. Grey has HSV's hue 0, red, so an offset b tints it, as in the publication.
    """
    factor, offset = SATURATION[severity - 1]
    value, low = x.max(2, keepdims=True), x.min(2, keepdims=True)
    spread = value - low
    saturation = spread / np.maximum(value, 1e-6)
    changed = np.minimum(saturation * factor + offset, 1)
    coloured = value - (value - x) * (changed / np.maximum(saturation, 1e-6))
    if not offset:
        return np.where(spread > 0, coloured, x)
    red = np.array([0, 0, 1], np.float32)
    return np.where(spread > 0, coloured, value * (red + (1 - red) * (1 - changed)))


def jpeg_compression(x: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Encode as JPEG of low quality (chroma at half the resolution) and decode."""
    pixels = np.rint(x * 255).astype(np.uint8)
    _, content = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[severity - 1]])
    return cv2.imdecode(content, cv2.IMREAD_COLOR).astype(np.float32) / 255

"""Sliding windows over an image, as pure geometry."""

Box = tuple[int, int, int, int]


def window_boxes(size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]) -> list[Box]:
    """Windows that cover an image; the last row and column are moved inwards so that all windows have one size.

    Args:
        size: Image height and width in pixels.
        crop: Window height and width; an image smaller than that is one window of its own size.
        stride: Vertical and horizontal step.

    Returns:
        ``(top, bottom, left, right)`` per window, row by row, as mmseg's slide inference visits them.

    Raises:
        ValueError: If a stride is not in [1, crop], which would leave pixels without prediction.
    """
    axes = []
    for length, window, step in zip(size, crop, stride, strict=True):
        if not 1 <= step <= window:
            raise ValueError(
                f'test_cfg.stride={stride} must be between 1 and crop_size={crop}, or pixels stay without prediction.'
            )
        count = max(length - window + step - 1, 0) // step + 1
        ends = [min(index * step + window, length) for index in range(count)]
        axes.append([(max(end - window, 0), end) for end in ends])
    return [(top, bottom, left, right) for top, bottom in axes[0] for left, right in axes[1]]

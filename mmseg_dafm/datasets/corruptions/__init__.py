"""Common corruptions of images, in NumPy and OpenCV: functions of an image, a severity and a generator."""

from mmseg_dafm.datasets.corruptions.registry import (
    CORRUPTIONS,
    GROUPS,
    SEVERITIES,
    VERSION,
    check_corruption,
    check_image,
    corrupt,
    group_of,
    select_corruptions,
)

__all__ = [
    'CORRUPTIONS',
    'GROUPS',
    'SEVERITIES',
    'VERSION',
    'check_corruption',
    'check_image',
    'corrupt',
    'group_of',
    'select_corruptions',
]

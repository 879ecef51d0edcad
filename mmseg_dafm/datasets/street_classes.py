"""The six street classes that CamVid, LabelMeFacade and Cityscapes share, and how each set's ids map to them.

Every id of a set that is not named here is ignored (255).
"""

STREET_CLASSES = ('road', 'pavement', 'building', 'vegetation', 'sky', 'car')

# Colours of Cityscapes, RGB.
STREET_PALETTE = [[128, 64, 128], [244, 35, 232], [70, 70, 70], [107, 142, 35], [70, 130, 180], [0, 0, 142]]

ROAD, PAVEMENT, BUILDING, VEGETATION, SKY, CAR = range(6)

# Number of ids in each set's label files.
SOURCE_NUM_IDS = {'camvid': 11, 'labelmefacade': 8, 'cityscapes': 19}

# id in the label file -> street class
SOURCE_TO_STREET = {
    'camvid': {0: SKY, 1: BUILDING, 3: ROAD, 4: PAVEMENT, 5: VEGETATION, 8: CAR},
    # Doors (2) and windows (7) are parts of a building.
    'labelmefacade': {0: BUILDING, 1: CAR, 2: BUILDING, 3: PAVEMENT, 4: ROAD, 5: SKY, 6: VEGETATION, 7: BUILDING},
    # trainIds; ACDC uses the same.
    'cityscapes': {0: ROAD, 1: PAVEMENT, 2: BUILDING, 8: VEGETATION, 10: SKY, 13: CAR},
}


def street_label_map(source: str, ignore_index: int = 255) -> dict[int, int]:
    """Map every id of a set to a street class or to ``ignore_index``.

    Args:
        source: ``'camvid'``, ``'labelmefacade'`` or ``'cityscapes'``.
        ignore_index: the id of pixels that do not count.

    Returns:
        A map that is total on the ids of the set, to be applied to all ids at once.

    Raises:
        ValueError: ``source`` is unknown.
    """
    if source not in SOURCE_TO_STREET:
        raise ValueError(f"source must be one of {', '.join(SOURCE_TO_STREET)}, got '{source}'.")
    return {i: SOURCE_TO_STREET[source].get(i, ignore_index) for i in range(SOURCE_NUM_IDS[source])}

"""Class names and colours: the nineteen of Cityscapes, the eight and six of the small street sets."""

from collections.abc import Mapping

import numpy as np

CLASSES = (
    'road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign', 'vegetation', 'terrain', 'sky',
    'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle',
)  # fmt: skip
IGNORED = 255

# Ids of Cityscapes' labelIds files in the order of CLASSES.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# Known ids of Cityscapes' labelIds files and GTAV's label files.
GTAV_NUM_IDS = 35

# SYNTHIA-RAND-CITYSCAPES: class -> id. No image has a pixel of the classes in SYNTHIA_ABSENT, so 16 are left to learn.
SYNTHIA_IDS = {
    'road': 3, 'sidewalk': 4, 'building': 2, 'wall': 21, 'fence': 5, 'pole': 7, 'traffic light': 15, 'traffic sign': 9,
    'vegetation': 6, 'terrain': 16, 'sky': 1, 'person': 10, 'rider': 17, 'car': 8, 'truck': 18, 'bus': 19, 'train': 20,
    'motorcycle': 12, 'bicycle': 11,
}  # fmt: skip
SYNTHIA_ABSENT = ('terrain', 'truck', 'train')
SYNTHIA_NUM_IDS = 23

# Vistas v1.2: class -> its ids. Curbs count as sidewalk in both mappings.
_BOTH = {
    'road': {13: 'Road', 24: 'Lane Marking - General'},
    'sidewalk': {2: 'Curb', 15: 'Sidewalk'},
    'building': {17: 'Building'},
    'wall': {6: 'Wall'},
    'fence': {3: 'Fence'},
    'pole': {45: 'Pole', 47: 'Utility Pole'},
    'traffic light': {48: 'Traffic Light'},
    'traffic sign': {50: 'Traffic Sign (Front)'},
    'vegetation': {30: 'Vegetation'},
    'terrain': {29: 'Terrain'},
    'sky': {27: 'Sky'},
    'person': {19: 'Person'},
    'rider': {20: 'Bicyclist', 21: 'Motorcyclist', 22: 'Other Rider'},
    'car': {55: 'Car'},
    'truck': {61: 'Truck'},
    'bus': {54: 'Bus'},
    'train': {58: 'On Rails'},
    'motorcycle': {57: 'Motorcycle'},
    'bicycle': {52: 'Bicycle'},
}
_MORE = {
    'rein': {
        'road': {7: 'Bike Lane', 8: 'Crosswalk - Plain', 10: 'Parking', 14: 'Service Lane', 23: 'Lane Marking - Crosswalk'},
        'sidewalk': {9: 'Curb Cut', 11: 'Pedestrian Area'},
        'pole': {44: 'Street Light'},
        'traffic sign': {46: 'Traffic Sign Frame', 49: 'Traffic Sign (Back)'},
    },
    'hrda': {'road': {41: 'Manhole'}},
}
MAPILLARY_MAPPINGS = tuple(_MORE)
MAPILLARY_NUM_IDS = 66


def mapillary_names(mapping: str = 'rein') -> dict[str, dict[int, str]]:
    """Class -> ids of Vistas v1.2 with their names.

    Raises:
        ValueError: ``mapping`` is unknown.
    """
    if mapping not in MAPILLARY_MAPPINGS:
        raise ValueError(f'the mapping of Mapillary Vistas must be one of {MAPILLARY_MAPPINGS}, got {mapping!r}.')
    return {name: {**ids, **_MORE[mapping].get(name, {})} for name, ids in _BOTH.items()}


def gtav_table() -> np.ndarray:
    """Train id of each id of Cityscapes' labelIds files and of GTAV's label files, (35,) uint8."""
    return lookup_table({old: new for new, old in enumerate(CITYSCAPES_IDS)}, GTAV_NUM_IDS)


def synthia_table() -> np.ndarray:
    """Train id of each id of SYNTHIA-RAND-CITYSCAPES, (23,) uint8."""
    return lookup_table({old: CLASSES.index(name) for name, old in SYNTHIA_IDS.items()}, SYNTHIA_NUM_IDS)


def label_id_table() -> np.ndarray:
    """Id in Cityscapes' labelIds files of each train id, (19,) uint8: what Cityscapes' server reads."""
    return np.array(CITYSCAPES_IDS, np.uint8)


def mapillary_table(mapping: str = 'rein') -> np.ndarray:
    """Train id of each id of Vistas v1.2, (66,) uint8."""
    ids = {old: CLASSES.index(name) for name, olds in mapillary_names(mapping).items() for old in olds}
    return lookup_table(ids, MAPILLARY_NUM_IDS)


def lookup_table(ids: Mapping[int, int], num_ids: int) -> np.ndarray:
    """Turn ``old id -> train id`` into an array that an array of old ids indexes; other ids are ignored."""
    table = np.full(num_ids, IGNORED, np.uint8)
    table[list(ids)] = list(ids.values())
    return table


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

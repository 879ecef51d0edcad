"""Tiny copies of data sets, in the layouts of their releases."""

import numpy as np
from mmseg.registry import DATASETS
from PIL import Image

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDomainInputs')]


def write(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        # the releases store ids with a palette
        image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.save(path)
    return path


def picture(height=12, width=20):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def ids(count, height=12, width=20):
    """Every id below count, at least once."""
    return (np.arange(height * width) % count).astype(np.uint8).reshape(height, width)


def build(**kwargs):
    return DATASETS.build(dict(pipeline=kwargs.pop('pipeline', LOAD), **kwargs))


# image and label of the two splits of Foggy Driving, and of the sets of one split
FOGGY_DRIVING = {
    split: (f'leftImg8bit/{split}/web/web_{{}}_leftImg8bit.png', f'{kind}/{split}/web/web_{{}}_{kind}_labelTrainIds.png')
    for split, kind in (('test', 'gtFine'), ('test_extra', 'gtCoarse'))
}
FOGGY_ZURICH = ('RGB/GP010229/{}.png', 'gt_labelTrainIds/GP010229/{}.png')
DARK_ZURICH = ('rgb_anon/val/night/GOPR0356/{}_rgb_anon.png', 'gt/val/night/GOPR0356/{}_gt_labelTrainIds.png')
NIGHTTIME_DRIVING = (
    'leftImg8bit/test/night/{}_leftImg8bit.png',
    'gtCoarse_daytime_trainvaltest/test/night/{}_gtCoarse_labelTrainIds.png',
)
SYNTHIA = ('RGB/{}.png', 'GT/LABELS/{}_labelTrainIds.png')


def write_pairs(root, pair, names, height=12, width=20):
    """Write an image of noise and a label of all 19 ids per name."""
    image, label = pair
    for name in names:
        write(root / image.format(name), picture(height, width))
        write(root / label.format(name), ids(19, height, width))


def write_foggy_zurich(root, names, split='testv2', **size):
    """Write Foggy Zurich with a list of the names, and one image more that it does not name."""
    write_pairs(root, FOGGY_ZURICH, names, **size)
    write(root / FOGGY_ZURICH[0].format('unlisted'), picture())
    listed = root / f'lists_file_names/RGB_{split}_filenames.txt'
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text(''.join(f'{FOGGY_ZURICH[0].format(name)}\n' for name in names))

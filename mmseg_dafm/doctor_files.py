"""Checks of what lies on disk: model folders, data roots, and the files that a config names."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmseg_dafm.doctor_checks import Check, import_error, installed, numbers

# Name -> (image pattern, image folder and suffix, label folder and suffix); labels hold ids 0-18 and 255.
DATA_LAYOUTS = {
    'cityscapes': ('leftImg8bit/{split}/*/*_leftImg8bit.png', ('leftImg8bit', 'gtFine'),
                   ('_leftImg8bit.png', '_gtFine_labelTrainIds.png'), ('train', 'val')),
    'acdc': ('rgb_anon/*/{split}/*/*_rgb_anon.png', ('rgb_anon', 'gt'),
             ('_rgb_anon.png', '_gt_labelTrainIds.png'), ('val',)),
}  # fmt: skip
LABEL_FIX = {
    'cityscapes': 'unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there and write the *_labelTrainIds.png '
    "with cityscapesscripts' createTrainIdLabelImgs.py",
    'acdc': 'unpack rgb_anon_trainvaltest.zip and gt_trainval.zip there',
}


def check_data_root(name: str, root: str, required: bool = True) -> Iterator[Check]:
    """Count images with labels in each split and decode one pair.

    Args:
        name: A key of `DATA_LAYOUTS`.
        root: The data set's folder.
        required: Whether the exit code depends on it.

    Yields:
        One check per split.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in DATA_LAYOUTS:
        raise ValueError(f'--data-root {name}={root}: known data sets are {sorted(DATA_LAYOUTS)}')
    pattern, folders, suffixes, splits = DATA_LAYOUTS[name]
    for split in splits:
        images = sorted(Path(root).expanduser().glob(pattern.format(split=split)))
        labels = [_label_of(image, folders, suffixes) for image in images]
        pairs = [(image, label) for image, label in zip(images, labels, strict=True) if label.is_file()]
        found = f'{len(images)} images, {len(pairs)} with labels'
        problem = _pair_problem(*pairs[0]) if pairs else None
        good = bool(images) and len(pairs) == len(images) and problem is None
        needed = f'{pattern.format(split=split)} and as many labels *{suffixes[1]} with ids 0-18 and 255'
        yield Check(f'{name} {split} in {root}', problem or found, needed, good, required, LABEL_FIX[name])


def _label_of(image: Path, folders: tuple[str, str], suffixes: tuple[str, str]) -> Path:
    parts = list(image.parts)
    # The data root itself may contain the folder's name; the layout's folder is the last one.
    index = len(parts) - 1 - parts[::-1].index(folders[0])
    parts[index] = folders[1]
    return Path(*parts[:-1], image.name.removesuffix(suffixes[0]) + suffixes[1])


def _pair_problem(image: Path, label: Path) -> str | None:
    try:
        with Image.open(image) as picture:
            size = picture.size
        with Image.open(label) as picture:
            ids = np.asarray(picture)
    except OSError as error:
        return f'cannot be read: {error}'
    if ids.shape != size[::-1]:
        return f'{label.name} has shape {ids.shape}, its image {size[::-1]}'
    wrong = sorted({int(value) for value in np.unique(ids)} - set(range(19)) - {255})
    return f'{label.name} holds ids {wrong[:8]}' if wrong else None


def check_model_dir(path: str) -> Iterator[Check]:
    """Check a local folder of Stable Diffusion or CLIP in the hub's layout.

    Yields:
        One check per part that the folder should have.
    """
    folder = Path(path).expanduser()
    parts = ('unet', 'vae') if not (folder / 'config.json').is_file() else ('',)
    for part in parts:
        where = folder / part
        config = where / 'config.json'
        weights = sorted(file.name for file in where.glob('*.safetensors'))
        kind = 'no config.json'
        if config.is_file():
            content = json.loads(config.read_text(encoding='utf-8'))
            kind = content.get('_class_name') or content.get('model_type') or 'unknown'
        fix = 'download stable-diffusion-v1-5/stable-diffusion-v1-5 or openai/clip-vit-large-patch14 to that folder'
        found = f'{kind}, {", ".join(weights) or "no .safetensors"}'
        good = config.is_file() and bool(weights)
        yield Check(f'model {where}', found, 'config.json and *.safetensors', good, fix=fix)


def check_hub_cache() -> Iterator[Check]:
    """Look for the two default models in the Hugging Face cache; neither is needed for the quickstart."""
    if import_error('huggingface_hub') is not None:
        return
    from huggingface_hub import try_to_load_from_cache

    command = 'hf' if numbers(installed('huggingface_hub')) >= (0, 34) else 'huggingface-cli'

    for repository, file in (
        ('stable-diffusion-v1-5/stable-diffusion-v1-5', 'unet/config.json'),
        ('openai/clip-vit-large-patch14', 'config.json'),
    ):
        good = isinstance(try_to_load_from_cache(repository, file), str)
        fix = f'{command} download {repository}, or give a local folder with --model-dir and in the config'
        found = 'in the cache' if good else 'not in the cache'
        yield Check(repository, found, 'for full-size runs', good, False, fix)


def check_config_files(path: str) -> Iterator[Check]:
    """Check that every file and folder named by a config exists, and that its schedule keeps to its learning rates."""
    if not Path(path).is_file():
        yield Check(f'config {path}', 'not there', 'a config file', False, fix='correct the path')
        return
    error = import_error('mmseg_dafm.config_check')
    if error is not None:
        yield Check(f'config {path}', error, 'an environment that works', False, fix='mend the environment first')
        return
    from mmengine.config import Config

    from mmseg_dafm.config_check import missing_files
    from mmseg_dafm.optim.schedule_check import check_rates

    try:
        cfg = Config.fromfile(path)
        problems = list(missing_files(cfg))
    except Exception as error:  # noqa: BLE001 (a config is a program)
        yield Check(f'config {path}', f'{type(error).__name__}: {error}', 'a config that loads', False, fix='mend the config')
        return
    for problem in problems:
        yield Check(f'config {path}', problem.what, 'present', False, fix=problem.fix)
    if not problems:
        yield Check(f'config {path}', 'every file that it names', 'present', True)
    try:
        check_rates(cfg)
    except ValueError as error:
        found, _, fix = str(error).partition(': ')
        yield Check(f'config {path}', found, 'rates that never rise above their intent', False, fix=fix)

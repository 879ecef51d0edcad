"""Checks of what lies on disk: model folders, and the files that a config names."""

import json
from collections.abc import Iterator
from pathlib import Path

from mmseg_dafm.doctor_checks import Check, import_error, installed, numbers


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
    from mmseg_dafm.models.domain.data_check import check_data
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
    try:
        check_data(cfg)
    except ValueError as error:
        yield Check(f'config {path}', str(error), 'data that fit the embeddings', False, fix='make the config agree with itself')

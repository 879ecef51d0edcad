"""Checks of files: model folders, configs and the files that they name, checkpoints."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mmseg_dafm.doctor.checks import Check, import_error, installed, numbers


def check_model_dir(path: str) -> Iterator[Check]:
    """Check a local folder of Stable Diffusion or CLIP in the hub's layout.

    Yields:
        One check per part of the model.
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
    """Look for the two default models in the Hugging Face cache; the quickstart does not need them."""
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
    """Run training's checks on a config; list all failures, not just the first."""
    name = f'config {Path(path).name}'
    error = import_error('mmseg_dafm.doctor.config_check')
    if error is not None:
        yield Check(name, error, 'an environment that works', False, fix='python -m mmseg_dafm.doctor lists what to repair')
        return
    # register the components: importing mmseg_dafm.doctor does not
    from mmseg_dafm import datasets, evaluation, hooks, models, optim  # noqa: F401
    from mmseg_dafm.core.config_file import load_config
    from mmseg_dafm.doctor.config_check import DATALOADERS, check_data_sets, missing_files, missing_packages, refusals

    try:
        cfg = load_config(path)
    except (ValueError, FileNotFoundError) as error:
        yield Check(name, str(error), 'a config that loads', False, fix='correct the path or the config')
        return
    problems = [*missing_packages(cfg), *missing_files(cfg)]
    for problem in problems:
        yield Check(name, problem.what, '', False, fix=problem.fix)
    refused = []
    # data sets can be checked only if no file is missing
    for check in (*refusals(), *(() if problems else (partial(check_data_sets, dataloaders=DATALOADERS),))):
        try:
            check(cfg)
        except ValueError as error:
            refused.append(str(error))
    for sentence in refused:
        found, _, fix = sentence.partition(': ')
        yield Check(name, found, '', False, fix=fix)
    if not problems and not refused:
        yield Check(name, 'packages, files, arguments and schedule', 'present and in order', True)


def check_checkpoint(config: str, checkpoint: str) -> Iterator[Check]:
    """Compare a checkpoint with a config's model, as a test does; the model is built on the meta device."""
    name = f'checkpoint {Path(checkpoint).name} for {Path(config).name}'
    try:
        import torch
        from mmengine.registry import init_default_scope
        from mmseg.registry import MODELS

        from mmseg_dafm import models  # noqa: F401 (registers the models)
        from mmseg_dafm.core.checkpoint import read_weights
        from mmseg_dafm.core.config_file import load_config
        from mmseg_dafm.core.fit import require_fit

        cfg = load_config(config)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        found = str(require_fit(model, read_weights(checkpoint), checkpoint))
    except (ImportError, ValueError, FileNotFoundError) as error:
        found, _, fix = str(error).rpartition('. ')
        yield Check(name, found or fix, 'weights that fit', False, fix=fix if found else 'correct the path or the config')
        return
    yield Check(name, found, 'weights that fit', True)

"""Runs of the toy suite with their own options and starts, three iterations each; a test file per kind runs beside the others."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_dafm.core.config_file import ConfigOptions
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.experiments.suites.plan import config_options, folder_of, output_of, plan
from mmseg_dafm.experiments.suites.results import look_up, read_result
from mmseg_dafm.experiments.suites.run_config import read_config
from mmseg_dafm.experiments.suites.suite_load import load_suite


def short(config, options, folder) -> Config:
    """A run's config, cut down to three iterations and five images."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=ConfigOptions)
    cfg = Config.fromfile(str(config))
    cfg.merge_from_dict(parser.parse_args(['--options', *options]).options)
    cfg.work_dir, cfg.experiment_name, cfg.log_level = str(folder), folder.name, 'ERROR'
    cfg.train_cfg.update(max_iters=3, val_begin=99)
    cfg.train_dataloader.dataset.length, cfg.test_dataloader.dataset.length = 16, 5
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=3)
    for hook in cfg.get('custom_hooks', []):
        if hook.type == 'FisherTuneHook':
            hook.update(warmup_iters=1, interval=1, estimation=dict(images=4, bank_images=4, batch_size=4))
    return cfg


def check_runs(root: Path, tmp_path: Path, kind: str) -> None:
    """Train and test every run of one kind of backbone from where the suite says, and read the table's columns."""
    suite = load_suite(root / 'configs/suites/toydrive.py')
    cells = [cell for cell in plan(suite, [0]) if cell.run.startswith(kind)]
    assert len(cells) >= 5
    for cell in cells:
        run, folder = suite.run(cell.run), folder_of(suite, cell, tmp_path)
        config = read_config(suite, run)
        cfg = short(config.file, config_options(suite, cell, tmp_path), folder)
        # every start exists, because the suite runs what it needs first
        check_config(cfg)
        runner = Runner.from_cfg(cfg)
        runner.train()
        os.replace(folder / 'iter_3.pth', folder / config.checkpoint)
        cfg.load_from, cfg.experiment_name = str(folder / config.checkpoint), f'{folder.name}_test'
        Runner.from_cfg(cfg).test()
        result = read_result(output_of(suite, cell, tmp_path), '0')
        values = {column.name: look_up(result, column.value, 'x') for column in suite.columns if column.value}
        assert all(value is not None and 0 <= value <= 100 for name, value in values.items() if name != 'percent')

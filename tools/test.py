"""Test a model: python tools/test.py CONFIG CHECKPOINT [--targets SET ...] [--tta] [--out DIR] [--show-dir DIR].

--targets tests other sets than the config's, under its protocol: one table for all of them. --submission predicts a test split
without public labels and writes the archive for its server.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from mmseg.registry import DATASETS, RUNNERS

from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, check_options, load_config
from mmseg_dafm.core.tool_output import one_sentence
from mmseg_dafm.datasets.submission import SERVERS, check_images, pack
from mmseg_dafm.datasets.targets import GROUPS, TARGETS, apply_options, select_targets, select_test_split, split_options
from mmseg_dafm.doctor.config_check import check_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for the log and the metrics (default: work_dirs/<config name>)')
    sets = parser.add_mutually_exclusive_group()
    known = f'{", ".join(TARGETS)}; groups: {", ".join(GROUPS)}'
    sets.add_argument('--targets', nargs='+', metavar='SET', help=f"sets to test instead of the config's: {known}")
    sets.add_argument(
        '--submission', nargs=2, metavar=('SERVER', 'ZIP'), help=f'predict the test split of {", ".join(SERVERS)} into an archive'
    )
    parser.add_argument('--out', help='folder for the predicted label maps')
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', help='folder for the painted predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show waits')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def prepare(args: argparse.Namespace) -> Config:
    """Read the config and apply the command line to it; bad input ends the program here, in one sentence."""
    if '://' not in args.checkpoint and not os.path.isfile(args.checkpoint):
        raise SystemExit(f'error: checkpoint {args.checkpoint} does not exist')
    selection = '--targets' if args.targets else '--submission' if args.submission else None
    options, late = split_options(args.cfg_options or {}) if selection else (args.cfg_options or {}, {})
    try:
        cfg = load_config(args.config, options)
        check_options(cfg, late)
        cfg.launcher, cfg.load_from = args.launcher, args.checkpoint
        run_config.set_work_dir(cfg, args.config, args.work_dir)
        run_config.require_fit(cfg)
        run_config.adapt_to_device(cfg)
        if args.targets:
            select_targets(cfg, args.targets)
        if args.submission:
            select_test_split(cfg, args.submission[0], prediction_folder(args.submission[1]))
        if selection:
            apply_options(cfg, late, selection)
        if args.show or args.show_dir:
            run_config.enable_drawing(cfg, args.show, args.show_dir, args.wait_time)
        if args.tta:
            run_config.enable_tta(cfg)
        if args.out:
            run_config.write_predictions(cfg, args.out)
        check_config(cfg, ('test_dataloader',))
        run_config.try_folder(cfg.work_dir, '--work-dir')
        for option, folder in (('--out', args.out), ('--show-dir', args.show_dir)):
            if folder:
                run_config.try_folder(folder, option)
        if args.submission:
            run_config.try_folder(os.path.dirname(args.submission[1]) or '.', '--submission')
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    return cfg


def prediction_folder(archive: str) -> str:
    """Folder of the predictions until they are in the archive: beside it, because all processes must see it."""
    if not archive.endswith('.zip'):
        raise ValueError(f'--submission writes an archive ZIP, got {archive}: end its name with .zip')
    return f'{archive}.predictions'


def images_of_split(runner: Runner, name: str) -> list[str]:
    """The images of a test split, before the test loop makes the folder of the predictions; an incomplete split is refused."""
    dataset = DATASETS.build(runner.cfg.test_dataloader.dataset)
    images = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    check_images(images, SERVERS[name])
    return images


def submit(runner: Runner, images: list[str], name: str, archive: str) -> None:
    """Predict a test split and pack it."""
    runner.test()
    if not is_main_process():
        return
    try:
        pack(prediction_folder(archive), images, SERVERS[name], archive, runner.logger.info)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from None
    shutil.rmtree(prediction_folder(archive))
    runner.logger.info(f'{archive} is ready for the server of {name}')


def main() -> None:
    args = parse_args()
    cfg = prepare(args)
    run_config.join_processes(cfg)
    images = []
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        if args.submission:
            images = images_of_split(runner, args.submission[0])
        # asking for the loop builds the data sets and the evaluator
        _ = runner.test_loop
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    if args.submission:
        submit(runner, images, *args.submission)
    else:
        runner.test()


if __name__ == '__main__':
    with one_sentence():
        main()

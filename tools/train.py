"""Train a model: python tools/train.py CONFIG [--work-dir DIR] [--resume] [--amp] [--cfg-options KEY=VALUE ...]."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import RUNNERS

from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.tool_output import one_sentence
from mmseg_dafm.doctor.config_check import check_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a segmentor.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<config name>)')
    parser.add_argument('--resume', action='store_true', help="go on from the work dir's last checkpoint")
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16 where the GPU has it')
    parser.add_argument('--dry-run', action='store_true', help='two iterations and one validation batch, nothing kept')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help='KEY=VALUE changes to the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def prepare(args: argparse.Namespace) -> Config:
    """Read the config and apply the command line to it; bad input ends the program here, in one sentence."""
    try:
        cfg = load_config(args.config, args.cfg_options)
        cfg.launcher = args.launcher
        run_config.set_work_dir(cfg, args.config, args.work_dir)
        run_config.set_resume(cfg, args.resume)
        run_config.require_fit(cfg)
        run_config.adapt_to_device(cfg)
        if args.amp:
            run_config.enable_amp(cfg)
        if args.dry_run:
            if args.launcher != 'none':
                raise ValueError('--dry-run runs in one process: leave --launcher out')
            run_config.shorten(cfg)
        check_config(cfg, ('train_dataloader', 'val_dataloader'))
        if not args.dry_run:
            run_config.try_folder(cfg.work_dir, '--work-dir')
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    return cfg


def dry_run(cfg: Config) -> None:
    """Train for two iterations, predict one validation batch, and report time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        start = time.perf_counter()
        runner.train()
        seconds = (time.perf_counter() - start) / cfg.train_cfg.max_iters
        if cfg.get('val_dataloader'):
            runner.model.eval()
            with torch.no_grad():
                runner.model.val_step(next(iter(runner.val_loop.dataloader)))
    memory = f', peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB' if torch.cuda.is_available() else ''
    print(f'dry run passed: {seconds:.2f} s per iteration, start-up included{memory}')


def main() -> None:
    args = parse_args()
    cfg = prepare(args)
    if args.dry_run:
        dry_run(cfg)
        return
    run_config.join_processes(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    with one_sentence():
        main()

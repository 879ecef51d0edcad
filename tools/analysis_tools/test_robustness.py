"""Test a model on corrupted images: all corruptions and severities in one run.

python tools/analysis_tools/test_robustness.py CONFIG CHECKPOINT --out work_dirs/robustness --cache work_dirs/corrupted
python tools/analysis_tools/test_robustness.py CONFIG CHECKPOINT --corruptions noise fog --severities 1 3 --limit 50
python tools/analysis_tools/test_robustness.py --pictures IMAGE --out corruptions.png

The model is built and loaded once. Finished conditions are kept: the same command goes on where it was cut off.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import mmseg_dafm  # noqa: F401  (first: keeps out what upstream packages say at import)

# isort: split
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import RUNNERS, TRANSFORMS

from mmseg_dafm.analysis import robustness as robustness_run
from mmseg_dafm.analysis.robustness import draw_corruptions, draw_robustness
from mmseg_dafm.core import run_config
from mmseg_dafm.core.checkpoint import TrustCheckpoint
from mmseg_dafm.core.config_file import ConfigOptions, load_config
from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.tool_output import one_sentence, track
from mmseg_dafm.datasets.corruptions import SEVERITIES, VERSION, select_corruptions
from mmseg_dafm.doctor.config_check import check_config
from mmseg_dafm.evaluation import DomainIoUMetric, robustness
from mmseg_dafm.evaluation.protocol import describe_test
from mmseg_dafm.evaluation.tables import without_nan


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; it is the only source of weights')
    parser.add_argument('--corruptions', nargs='+', default=['all'], help='all, noise, blur, weather, digital, or names')
    parser.add_argument('--severities', type=int, nargs='+', default=list(SEVERITIES))
    parser.add_argument('--limit', type=int, help='at most this many images of each data set, evenly spread')
    parser.add_argument('--out', type=Path, help='folder of the tables (default: work_dirs/robustness_<config>), or picture')
    parser.add_argument('--cache', help='folder that keeps the corrupted images for other checkpoints')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    parser.add_argument('--backend', choices=['own', 'imagecorruptions'], default='own')
    parser.add_argument('--pictures', metavar='IMAGE', help='draw IMAGE under every corruption, test nothing')
    parser.add_argument('--trust-checkpoint', action=TrustCheckpoint)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, help='KEY=VALUE changes to the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def draw_pictures(args: argparse.Namespace) -> None:
    """Write the sheet of all corruptions of one image."""
    if '://' not in args.pictures and not os.path.isfile(args.pictures):
        raise ValueError(f'--pictures names {args.pictures}, which does not exist')
    image = TRANSFORMS.build(dict(type='LoadImageFromFile'))(dict(img_path=args.pictures))['img']
    out = args.out or Path('corruptions.png')
    draw_corruptions(image, out, args.seed)
    print(f'{out}: {image.shape[1]} x {image.shape[0]} pixels under every corruption')


def prepare(args: argparse.Namespace) -> tuple[Config, list[tuple[str, int]]]:
    """The config of the test and the conditions, the clean one first; bad input ends here, before anything is built."""
    for name in ('config', 'checkpoint'):
        path = getattr(args, name)
        if path is None:
            raise ValueError(f'{name} is missing: give CONFIG and CHECKPOINT, or --pictures IMAGE')
        if not os.path.isfile(path):
            raise FileNotFoundError(f'{name} {path} does not exist')
    corruptions = select_corruptions(args.corruptions)
    severities = robustness.select_severities(args.severities)
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.load_from, cfg.resume = args.checkpoint, False
    args.out = args.out or Path('work_dirs') / f'robustness_{Path(args.config).stem}_{Path(args.checkpoint).stem}'
    run_config.try_folder(args.out, '--out')
    cfg.work_dir = str(args.out / 'log')
    # The tool says what matters; mmengine's own lines would repeat for every condition.
    cfg.log_level = 'WARNING'
    if not cfg.get('test_dataloader') or not cfg.get('test_evaluator'):
        raise ValueError(f'{args.config} defines no test_dataloader or no test_evaluator: add them')
    run_config.adapt_to_device(cfg)
    run_config.require_fit(cfg)
    robustness_run.drop_pretrained(cfg.model)
    check_config(cfg, ('test_dataloader',))
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    settings = arguments(args)
    robustness_run.corrupted_loader(cfg.test_dataloader, settings)
    TRANSFORMS.build(dict(type='Corrupt', corruption='fog', severity=1, **settings))
    if args.limit is not None:
        robustness_run.limit_images(cfg.test_dataloader, args.limit)
    return cfg, [('clean', 0), *((name, severity) for name in corruptions for severity in severities)]


def arguments(args: argparse.Namespace) -> dict:
    """Arguments of every Corrupt."""
    return dict(seed=args.seed, backend=args.backend, cache_dir=args.cache)


def test_condition(runner: Runner, cfg: Config, condition: tuple[str, int], args: argparse.Namespace) -> dict[str, float]:
    """Test the loaded model under one condition; returns the mIoU of each domain."""
    corruption, severity = condition
    corrupt = dict(corruption=corruption, severity=severity, **arguments(args)) if severity else None
    loader = robustness_run.corrupted_loader(cfg.test_dataloader, corrupt)
    runner.test_loop.dataloader = runner.build_dataloader(loader, seed=runner.seed)
    for metric in runner.test_loop.evaluator.metrics:
        if isinstance(metric, DomainIoUMetric):
            # Its tables of clean images lie beside the checkpoint and must not be replaced.
            metric.out_dir = str(args.out / 'tables' / robustness_run.condition_name(*condition))
    return robustness.domain_scores(runner.test())


def run(args: argparse.Namespace) -> None:
    cfg, conditions = prepare(args)
    settings = dict(seed=args.seed, backend=args.backend)
    key = robustness_run.run_key(cfg, args.checkpoint, settings)
    names = {condition: robustness_run.condition_name(*condition) for condition in conditions}
    folder = args.out / 'conditions'
    found = {condition: robustness_run.read_condition(folder, name, key) for condition, name in names.items()}
    found = {condition: record['scores'] for condition, record in found.items() if record}
    run_config.join_processes(cfg)
    pending = [condition for condition in conditions if condition not in found]
    say(f'{len(conditions)} conditions, {len(found)} of them finished before')
    if pending:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        # One process looks at the files, so that all walk the same list.
        shared = [found]
        broadcast_object_list(shared)
        found = shared[0]
        pending = [condition for condition in conditions if condition not in found]
        for condition in track(pending, len(pending), 'robustness', say):
            start = time.perf_counter()
            found[condition] = test_condition(runner, cfg, condition, args)
            seconds = time.perf_counter() - start
            if is_main_process():
                record = dict(key=key, condition=names[condition], scores=found[condition], seconds=round(seconds, 1))
                robustness_run.write_condition(folder, names[condition], record)
            say(f'{names[condition]}: mIoU {found[condition]["all"]:.2f} ({seconds:.1f} s)')
    if is_main_process():
        write(args, cfg, {condition: found[condition] for condition in conditions})


def write(args: argparse.Namespace, cfg: Config, found: dict[tuple[str, int], dict[str, float]]) -> None:
    """Write the tables and the picture."""
    clean = found.pop(('clean', 0))
    summaries = robustness.by_domain(clean, found)
    protocol = describe_test(cfg.to_dict(), 'test', Path(args.config).stem, args.checkpoint)
    protocol.update(limit=args.limit or 'none', seed=args.seed, corruptions=f'{args.backend}, version {VERSION}')
    texts = {
        'json': json.dumps(without_nan(dict(summaries=summaries, protocol=protocol)), indent=1) + '\n',
        'csv': robustness.to_csv(summaries),
        'md': robustness.to_markdown(summaries, protocol),
    }
    for suffix, text in texts.items():
        with replacing(args.out / f'robustness.{suffix}') as temporary:
            temporary.write_text(text)
    title = f'{Path(args.config).stem}, {Path(args.checkpoint).name}'
    draw_robustness(summaries['all'], args.out / 'robustness.png', title)
    print(texts['md'].split('\n\n')[0])
    print(f'tables and picture: {args.out}/robustness.md, .csv, .json, .png')


def say(text: str) -> None:
    """One line on the main process."""
    if is_main_process():
        print(text, flush=True)


if __name__ == '__main__':
    parsed = parse_args()
    with one_sentence():
        draw_pictures(parsed) if parsed.pictures else run(parsed)

"""Time and memory of FisherTune's optimizer: python tools/benchmark/fisher_tune.py [--model small] [--tensors] [--out DIR].

Without --tensors: whole training steps of a timm ViT with a linear head. With it: optimizer steps alone, on tensors of the
ViT's shapes with given gradients. All contestants run in turn, ratios compare their medians. LoRA needs peft
(`pip install peft`), which the package does not; without it its row is skipped. Selected weights are random.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'benchmark')]

import torch
from fisher_contestants import LORA, MASK, WIDTHS, Contestant, Segmenter, Tensors, dense, lora, masked, ours
from measure import interleaved
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from report import environment, gib, number

import mmseg_dafm  # noqa: F401
from mmseg_dafm.core.files import replacing

FUSED, FOREACH, FULL = 'dense AdamW, fused', 'dense AdamW, foreach', 'full fine-tuning'
# Limits of our step's time on a CPU and on a GPU, against each baseline; None: no goal.
STEP_GOALS = {FOREACH: (0.25, None), FUSED: (1.2, 1.0), MASK: (0.4, None)}
TRAINING_GOAL, STATE_GOAL = 1.02, 0.06


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--model', choices=sorted(WIDTHS), help='default: small on a CPU, vit_large on a GPU')
    parser.add_argument('--tensors', action='store_true', help='optimizer steps alone')
    parser.add_argument('--share', type=float, default=0.05, help='selected share of the backbone')
    parser.add_argument('--cohorts', type=int, default=72, help='how many in the rows with many (default: 36,000 / 500)')
    parser.add_argument('--size', type=int, default=224, help='side of the images in pixels, a multiple of 16')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--warmup', type=int, default=2)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--device', default=device)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder for fisher_tune_*.{json,md}')
    args = parser.parse_args()
    args.model = args.model or ('vit_large' if args.device.startswith('cuda') else 'small')
    if args.model == 'tiny' and not args.tensors:
        parser.error('--model tiny exists with --tensors only')
    if not 0 < args.share < 0.9 or args.size % 16 or min(args.repeats, args.batch, args.cohorts) < 1:
        parser.error('--share must lie in (0, 0.9), --size be a multiple of 16, --repeats, --batch and --cohorts at least 1')
    return args


def fused_kind(device: torch.device) -> str:
    """The faster kind of AdamW that there is: PyTorch before 2.4 has no fused kernel for CPUs."""
    try:
        torch.optim.AdamW([torch.zeros(1, device=device)], fused=True)
    except RuntimeError:
        return 'foreach'
    return 'fused'


def tensor_contestants(args: argparse.Namespace, device: torch.device) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Optimizers that share weights and gradients, and on a CPU the dense AdamW's state, because ViT-L needs 1.1 GB for each."""
    with device:
        model = Tensors(*WIDTHS[args.model])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    kind, skipped = fused_kind(device), {}
    found = {FOREACH: dense(model, 'foreach')}
    if kind == 'fused':
        found[FUSED] = dense(model, 'fused')
    else:
        skipped[FUSED] = 'PyTorch has no fused kernel for this device'
    found[MASK] = masked(model, args.share, kind)
    if device.type == 'cpu':
        for name in {FUSED, MASK} & found.keys():
            found[name].optimizer.state = found[FOREACH].optimizer.state
    # It overwrites gradients, which the others still need.
    plain = found[MASK].update
    kept = {p: p.grad.clone() for p in model.parameters()}

    def with_own_gradients() -> None:
        own = {p: p.grad for p in kept}
        for parameter, gradient in kept.items():
            parameter.grad = gradient
        plain()
        for parameter, gradient in own.items():
            parameter.grad = gradient

    found[MASK].update = with_own_gradients
    gradients = {p: p.grad for p in model.parameters()}
    rows = [(1, kind), (args.cohorts, kind)] + ([(1, 'foreach')] if kind == 'fused' else [])
    for cohorts, one in rows:
        found[our_name(cohorts, '' if one == kind else ', foreach')] = ours(model, cohorts, args.share, one)
    for parameter, gradient in gradients.items():
        parameter.grad = gradient
    skipped[LORA] = 'needs the whole model: leave --tensors out'
    return found, skipped


def our_name(cohorts: int, suffix: str = '') -> str:
    """Name of a row of ours."""
    return f'ours, {cohorts} cohort{"s" * (cohorts > 1)}{suffix}'


def model_contestants(args: argparse.Namespace, device: torch.device) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Whole training steps, each contestant on a model of its own."""
    kind, skipped = fused_kind(device), {}

    def build(make, *arguments, **keywords) -> Contestant:
        model = Segmenter(args.model, args.size, args.batch, device)
        return make(model, *arguments, forward=model, **keywords)

    found = {f'{FULL}, foreach': build(dense, 'foreach')}
    if kind == 'fused':
        found[f'{FULL}, fused'] = build(dense, 'fused')
    else:
        skipped[f'{FULL}, fused'] = 'PyTorch has no fused kernel for this device'
    found[MASK] = build(masked, args.share, kind)
    try:
        found[LORA] = build(lora, kind)
    except ImportError as error:
        skipped[LORA] = f'peft cannot be imported ({error})'
    found[our_name(1)] = build(ours, 1, args.share, kind)
    found[our_name(args.cohorts)] = build(ours, args.cohorts, args.share, kind)
    found['ours, gradients freed'] = build(ours, 1, args.share, kind, free_gradients=True)
    found['ours, early half empty'] = build(ours, 1, args.share, kind, first=0.5)
    return found, skipped


def judge(times: dict, memory: dict, args: argparse.Namespace, gpu: bool) -> list[dict]:
    """Ratios of medians against the goals; wall time."""
    rows = []

    def row(what: str, value: float, limit: float | None) -> None:
        met = None if limit is None else value <= limit
        rows.append(dict(goal=what, limit=limit, measured=round(value, 4), met=met))

    names = [our_name(1)] + ([our_name(args.cohorts)] if args.cohorts > 1 else [])
    for name in names:
        if args.tensors:
            for base, limits in STEP_GOALS.items():
                if base in times:
                    row(f'optimizer step: {name} / {base}', times[name]['wall'] / times[base]['wall'], limits[gpu])
        else:
            for kind in ('foreach', 'fused'):
                if f'{FULL}, {kind}' in times:
                    base = times[f'{FULL}, {kind}']['wall']
                    row(f'training step: {name} / {FULL}, {kind}', times[name]['wall'] / base, TRAINING_GOAL)
    base = FOREACH if args.tensors else f'{FULL}, foreach'
    row(f'optimizer state: {names[-1]} / {base}', memory[names[-1]]['state'] / memory[base]['state'], STATE_GOAL)
    return rows


def markdown(result: dict) -> str:
    """The result as Markdown: setting, goals, times and bytes, what was skipped."""
    setting = ', '.join(f'{key} {value}' for key, value in {**result['setting'], **result['environment']}.items())
    lines = [f'# FisherTune benchmark, {result["what"]}', '', setting, '']
    lines += ['| goal | limit | measured | met |', '|---|---|---|---|']
    for goal in result['goals']:
        met = {True: 'yes', False: 'no', None: ''}[goal['met']]
        limit = '' if goal['limit'] is None else f'at most {goal["limit"]:g}'
        lines.append(f'| {goal["goal"]} | {limit} | {goal["measured"]:g} | {met} |')
    lines += [
        '',
        '| | wall s | cpu s | optimizer state GiB | gradients GiB | other GiB | peak GiB |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, times in result['times'].items():
        own = result['memory'][name]
        cells = [
            number(times['wall']),
            number(times['cpu']),
            *(gib(own.get(key)) for key in ('state', 'gradients', 'extra', 'peak')),
        ]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    lines += ['', *(f'{name}: skipped, {reason}' for name, reason in result['skipped'].items())]
    return '\n'.join(lines).rstrip() + '\n'


def run(args: argparse.Namespace) -> dict:
    """All measurements of one setting."""
    device = torch.device(args.device)
    torch.manual_seed(0)
    contestants, skipped = (tensor_contestants if args.tensors else model_contestants)(args, device)
    memory = {name: contestant.bytes() for name, contestant in contestants.items()}
    actions = {name: contestant.step for name, contestant in contestants.items()}
    times = interleaved(actions, args.repeats, args.warmup, device)
    keys = ('model', 'share', 'repeats') if args.tensors else ('model', 'size', 'batch', 'share', 'repeats')
    return dict(
        what='optimizer steps alone' if args.tensors else 'whole training steps',
        setting={key: getattr(args, key) for key in keys},
        environment=environment(device, args.threads),
        goals=judge(times, memory, args, device.type == 'cuda'),
        times=times,
        memory=memory,
        skipped=skipped,
    )


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    # mmengine logs the rate of every parameter
    MMLogger.get_instance('fisher_tune_benchmark', log_level='WARNING')
    with DefaultScope.overwrite_default_scope('mmseg'):
        result = run(args)
    text = markdown(result)
    print(text)
    stem = f'fisher_tune_{args.model}{"_tensors" if args.tensors else ""}'
    for suffix, content in (('.json', json.dumps(result, indent=1)), ('.md', text)):
        with replacing(args.out / f'{stem}{suffix}') as path:
            path.write_text(content)


if __name__ == '__main__':
    main()

"""Time of estimating Fisher information: python tools/benchmark/fisher_estimation.py [--model small] [--batch 4] [--out DIR].

Squares of per-sample gradients of a timm ViT's candidates, one image at a time and by the batched path, against a training
step's forward and backward on the same batch: F(x) alone, and all that FisherTune's default does with an image, which is F(x) and
F(x') at weights drawn from the posterior. All run in turn; ratios compare medians per image.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'benchmark')]

import torch
from measure import interleaved, peak_gpu_bytes
from report import environment, gib

from mmseg_dafm.core.files import replacing
from mmseg_dafm.fishertune.candidates import block_paths, candidate_tensors, find_candidates
from mmseg_dafm.fishertune.feature_shift import FeatureShift, prefix_tokens
from mmseg_dafm.fishertune.squared_gradients import (
    LayerGradients,
    add_squares_by_batch,
    add_squares_by_loop,
    new_accumulators,
    only_requires_grad,
)
from mmseg_dafm.fishertune.variational import WeightNoise, prior_widths

MODELS = {'small': 'vit_small_patch16_224', 'base': 'vit_base_patch16_224', 'vit_large': 'vit_large_patch16_224'}
STEP, LOOP, BATCH = 'training step, forward and backward', 'F(x), batch-1 loop', 'F(x), batched path'
VON_LOOP, VON_BATCH = "default estimate of x and x', one image a draw, loop", 'the same, a batch a draw, batched path'
GOAL = 1.5  # of the loop's time over the batched path's, at ViT-L on a GPU


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--model', choices=MODELS, default='vit_large' if device == 'cuda' else 'small')
    parser.add_argument('--size', type=int, default=512 if device == 'cuda' else 224, help='side of the images in pixels')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--warmup', type=int, default=2)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--device', default=device)
    parser.add_argument('--amp', action='store_true', help='bfloat16 passes; squares stay float32')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder for fisher_estimation_*.{json,md}')
    args = parser.parse_args()
    if args.size % 16 or min(args.batch, args.repeats) < 1:
        parser.error('--size must be a multiple of 16, --batch and --repeats at least 1')
    return args


def measure(args: argparse.Namespace) -> dict:
    """Run all contestants."""
    import timm

    device = torch.device(args.device)
    torch.manual_seed(0)
    with device:
        model = timm.create_model(MODELS[args.model], img_size=args.size, num_classes=0, global_pool='')
        head = torch.nn.Linear(model.embed_dim, 19)
        images = torch.randn(args.batch, 3, args.size, args.size)
        labels = torch.randint(0, 19, (args.batch, (args.size // 16) ** 2))
    model.eval()
    candidates = find_candidates(model)
    tensors = candidate_tensors(model, candidates)
    samples, seeds = list(zip(images, labels, strict=True)), list(range(args.batch))

    def losses(batch, _) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.amp):
            tokens = model.forward_features(torch.stack([image for image, _ in batch]))[:, 1:]
            logits = head(tokens).float()
        wanted = torch.stack([label for _, label in batch])
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction='none').mean(1)

    layers, sums = LayerGradients(model, tensors), new_accumulators(tensors)

    def step() -> None:
        losses(samples, seeds).mean().backward()
        model.zero_grad(set_to_none=True)

    def loop() -> None:
        with only_requires_grad(model, tensors):
            add_squares_by_loop(losses, tensors, samples, seeds, sums)

    def batched() -> None:
        with only_requires_grad(model, {}), layers:
            add_squares_by_batch(losses, layers, samples, seeds, sums)

    noise, widths = WeightNoise(tensors), prior_widths(tensors)
    shift = FeatureShift(model, block_paths(candidates), prefix_tokens=prefix_tokens(model))
    measured = samples if args.batch > 1 else samples * 2
    with torch.no_grad(), shift.measuring(len(measured)):
        losses(measured, seeds)
    shift.set_spreads()
    draws = itertools.count()

    def von(size: int, tensors_with_grad: dict, add: Callable[[list, list], None]) -> None:
        with only_requires_grad(model, tensors_with_grad):
            for start in range(0, args.batch, size):
                part, own, draw = samples[start : start + size], seeds[start : start + size], next(draws)
                for context in (nullcontext(), shift.shifting(own)):
                    with noise.drawn(draw, widths), context:
                        add(part, own)

    def von_loop() -> None:
        von(1, tensors, lambda part, own: add_squares_by_loop(losses, tensors, part, own, sums))

    def von_batched() -> None:
        with layers:
            von(args.batch, {}, lambda part, own: add_squares_by_batch(losses, layers, part, own, sums))

    actions = {STEP: step, LOOP: loop, BATCH: batched, VON_LOOP: von_loop, VON_BATCH: von_batched}
    found = interleaved(actions, args.repeats, args.warmup, device)
    if device.type == 'cuda':
        for name, action in actions.items():
            found[name]['peak_bytes'] = peak_gpu_bytes(action)
    return dict(
        rows=found, candidates=sum(tensor.numel() for tensor in tensors.values()), environment=environment(device, args.threads),
        settings={key: str(value) for key, value in vars(args).items() if key != 'out'}, batch=args.batch,
    )  # fmt: skip


def to_markdown(record: dict) -> str:
    """Time per image and ratios."""
    rows, batch = record['rows'], record['batch']
    lines = ['| what | s per image | against the training step | against the loop | peak memory |', '|---|---:|---:|---:|---:|']
    for name, row in rows.items():
        ratios = (row['wall'] / rows[base]['wall'] for base in (STEP, LOOP))
        memory = gib(row['peak_bytes']) if 'peak_bytes' in row else ''
        lines.append(
            f'| {name} | {row["wall"] / batch:.4f} | ' + ' | '.join(f'{ratio:.2f}' for ratio in ratios) + f' | {memory} |'
        )
    gain = rows[LOOP]['wall'] / rows[BATCH]['wall']
    default = rows[VON_LOOP]['wall'] / rows[VON_BATCH]['wall']
    lines += ['', f'The batched path is {gain:.2f} times as fast as the loop (goal at ViT-L on a GPU: {GOAL});']
    lines += [f'the default estimate, with a batch a draw of the weights, {default:.2f} times.']
    return '\n'.join(lines) + '\n'


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    record = measure(args)
    text = to_markdown(record)
    for suffix, content in (('json', json.dumps(record, indent=1)), ('md', text)):
        with replacing(args.out / f'fisher_estimation_{args.model}_{args.size}.{suffix}') as path:
            path.write_text(content)
    print(text)


if __name__ == '__main__':
    main()

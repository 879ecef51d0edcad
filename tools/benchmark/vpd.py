"""Time and memory of VPDBackbone: python tools/benchmark/vpd.py [--arch sd1.5] [--sizes 256 512] [--out DIR].

A step is forward and backward, without optimizer, from given latents. Saved bytes are counted with fake tensors, so that
512 px need no memory. Ratios compare medians of interleaved repeats in one run: processor time on a CPU, which a loaded
machine disturbs less, and wall time on a GPU.
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools' / 'benchmark')]

import torch
from contestants import ARCHITECTURES, CONTESTANTS, build_backbone, domain_config, segmentor_config
from measure import backward, interleaved, peak_gpu_bytes, saved_bytes
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from report import environment, judge, markdown, write
from torch._subclasses.fake_tensor import FakeTensorMode

import mmseg_dafm  # noqa: F401
from mmseg_dafm.models.domain.domain_embedding import image_key
from mmseg_dafm.models.segmentors.domain_aware_encoder_decoder import window_boxes

# how often the paper's recipe sees an image of Cityscapes: 80,000 iterations of 2 images over 2,975
VISITS = 54
PARTS = ('steps', 'saved', 'domain', 'vae', 'windows')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Benchmark VPDBackbone.')
    parser.add_argument('--arch', choices=sorted(ARCHITECTURES), default='sd1.5')
    parser.add_argument('--sizes', type=int, nargs='+', default=[256, 512], help='sides in pixels, multiples of 64')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--warmup', type=int, default=1)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    parser.add_argument('--only', nargs='+', choices=sorted(CONTESTANTS), help='contestants to time (default: all)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'), help='folder for vpd_<arch>_<sizes>.{json,md}')
    args = parser.parse_args()
    if any(size < 64 or size % 64 for size in args.sizes):
        parser.error(f'--sizes must be multiples of 64, got {args.sizes}')
    if args.repeats < 1 or args.warmup < 0 or args.batch < 1:
        parser.error('--repeats and --batch must be at least 1 and --warmup at least 0')
    return args


def autocast(device: torch.device):
    """The precision that a device trains in: bfloat16 on a GPU, float32 on a CPU."""
    return torch.autocast('cuda', torch.bfloat16) if device.type == 'cuda' else nullcontext()


def steps(args: argparse.Namespace, size: int, device: torch.device) -> tuple[dict, dict]:
    """Times of a training step of each contestant, of W and of the VAE; peak bytes on a GPU."""
    actions, peak = {}, {}
    if 'steps' in args.parts:
        backbone, images = build_backbone(args.arch, size, args.batch, device)

        def step(run):
            with autocast(device):
                outs = run(backbone, images)
            backward(outs)
            # written into existing gradients from the second step on, as in training
            for parameter in backbone.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()

        for name in args.only or CONTESTANTS:
            actions[name] = lambda run=CONTESTANTS[name]: step(run)
            if device.type == 'cuda':
                actions[name]()
                peak[name] = peak_gpu_bytes(actions[name])
    for name, build in (('domain', build_domain), ('vae', build_vae)):
        if name in args.parts:
            actions.update(build(args, size, device))
    return (interleaved(actions, args.repeats, args.warmup, device) if actions else {}), peak


def build_domain(args: argparse.Namespace, size: int, device: torch.device) -> dict:
    """Actions that compute W of a batch with a frozen tower: the first time, and again from the remembered embeddings."""
    domain = MODELS.build(domain_config(args.arch)).to(device).train()
    side = domain.image_encoder.image_size
    kept = [torch.full((3, side, side), index, dtype=torch.uint8) for index in range(args.batch)]

    def run(again: bool):
        if not again:
            domain.cache.stored.clear()
        with autocast(device):
            images = torch.stack(kept).to(device) / 127.5 - 1
            domain(images, [image_key(image) for image in kept])

    return {'W': lambda: run(False), 'W, remembered': lambda: run(True)}


def build_vae(args: argparse.Namespace, size: int, device: torch.device) -> dict:
    """An action that encodes a batch of images, frozen; all contestants would need it."""
    from mmseg_dafm.models.backbones.latents import LatentEncoder
    from mmseg_dafm.models.backbones.sd_weights import resolve_architecture

    encoder = LatentEncoder(resolve_architecture(ARCHITECTURES[args.arch][0])['vae']).to(device)
    images = torch.zeros(args.batch, 3, size, size, device=device)

    def run():
        with autocast(device):
            encoder(images)

    return {'VAE encoder': run}


def saved(args: argparse.Namespace, size: int, device: torch.device, fake: bool = True) -> dict[str, int]:
    """Bytes that each contestant's forward leaves for backward."""
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext(), autocast(device):
        backbone, images = build_backbone(args.arch, size, args.batch, device, fake)
        constants = [images, backbone.latents.latents]
        return {
            name: saved_bytes(lambda run=run: run(backbone, images), backbone, constants) for name, run in CONTESTANTS.items()
        }


def windows(args: argparse.Namespace, device: torch.device) -> dict:
    """Times of sliding-window inference for several numbers of windows at once; the default is timed as such."""
    image, crop, stride = ((1024, 2048), 512, 341) if args.arch == 'sd1.5' else ((256, 512), 128, 85)
    torch.manual_seed(0)
    model = MODELS.build(segmentor_config(args.arch, crop, stride)).to(device).eval()
    images = torch.rand(1, 3, *image, device=device) * 2 - 1
    base = model.test_cfg

    def run(count):
        model.test_cfg = {**base, 'window_batch': count}
        with torch.no_grad(), autocast(device):
            model.inference(images, [dict(img_shape=image)])

    actions = {str(count or 'default'): lambda count=count: run(count) for count in (1, 2, 4, 8, None)}
    times = interleaved(actions, args.repeats, args.warmup, device)
    count = len(window_boxes(image, (crop, crop), (stride, stride)))
    return dict(image=f'{image[0]}x{image[1]}', crop=crop, stride=stride, count=count, times=times)


def goals(result: dict, gpu: bool) -> list[dict]:
    """Every goal whose two sides were measured."""
    clock, found = 'wall' if gpu else 'cpu', []

    def add(size, name, above, below):
        if above is not None and below:
            found.append(dict(size=size, **judge(name, above / below, gpu)))

    for size, part in result['sizes'].items():
        time_of = {name: values[clock] for name, values in part['times'].items()}
        kept = part['saved']
        add(size, 'step / floor', time_of.get('ours'), time_of.get('floor'))
        add(size, 'saved / explicit', kept.get('ours'), kept.get('explicit'))
        add(size, 'saved with checkpointing / explicit', kept.get('ours + checkpointing'), kept.get('explicit'))
        if 'W' in time_of:
            mean = (time_of['W'] + (VISITS - 1) * time_of['W, remembered']) / VISITS
            add(size, 'W / step', time_of['W'], time_of.get('ours'))
            add(size, f'W, mean of {VISITS} visits / step', mean, time_of.get('ours'))
    if result.get('windows'):
        times = {name: values[clock] for name, values in result['windows']['times'].items()}
        add(result['windows']['image'], 'windows: one at a time / default', times['1'], times['default'])
    return found


def main() -> None:
    args = parse_args()
    device = torch.device(args.device)
    torch.set_num_threads(args.threads)
    with DefaultScope.overwrite_default_scope('mmseg'):
        result = dict(arch=args.arch, batch=args.batch, repeats=args.repeats, environment=environment(device, args.threads))
        result['sizes'] = {}
        stem = f'vpd_{args.arch}_{"_".join(map(str, args.sizes))}'
        for size in args.sizes:
            times, peak = steps(args, size, device)
            kept = saved(args, size, device) if 'saved' in args.parts else {}
            result['sizes'][size] = dict(times=times, saved=kept, peak=peak)
            result['goals'] = goals(result, device.type == 'cuda')
            write(result, args.out, stem)
        if 'windows' in args.parts:
            # SD-1.5 on a CPU would take the better part of an hour
            result['windows'] = windows(args, device) if device.type == 'cuda' or args.arch == 'small' else None
        result['goals'] = goals(result, device.type == 'cuda')
        write(result, args.out, stem)
    print(markdown(result))


if __name__ == '__main__':
    main()

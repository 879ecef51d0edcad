"""Time and memory of batch norm conversion against a plain forward pass, torch's update_bn and fvcore's update_bn_stats.

python tools/benchmark/bn_conversion.py --size 256 --batch 8 --batches 4 --repeats 5 --out work_dirs/bn_conversion.json

All run a torchvision ResNet with random weights over the same batches; the forward pass is in test mode and without gradients.
fvcore is optional (`pip install fvcore`); without it its row says so. Memory is what lies above the model, its weights and the
images.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torchvision
from measure import interleaved, peak_gpu_bytes
from report import cpu_name
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmseg_dafm.core.files import replacing
from mmseg_dafm.daft import convert_bn

TIME_GOAL = 1.15  # conversion / forward
NUMBERS_PER_CHANNEL = 2  # in float64, held on top of the forward pass


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--arch', default='resnet50', help='a torchvision model')
    parser.add_argument('--size', type=int, default=256)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--batches', type=int, default=4)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=Path, help='JSON file')
    return parser.parse_args()


def source_network(arch: str, device: str) -> nn.Module:
    """A network whose batch norms have seen something, in test mode."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(arch).to(device)
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, 64, 64, device=device))
    return model.eval()


def contestants(source: nn.Module, batches: list[Tensor]) -> dict:
    """Name -> action. Each works on a model of its own, and starts from the same weights whenever it matters."""
    models = {name: copy.deepcopy(source) for name in ('forward', 'ours', 'ours, verified', 'pooled', 'update_bn', 'fvcore')}

    @torch.no_grad()
    def forward() -> None:
        for batch in batches:
            models['forward'](batch)

    actions = {
        'forward': forward,
        'ours': lambda: convert_bn(models['ours'], batches, verify=False),
        'ours, verified': lambda: convert_bn(models['ours, verified'], batches),
        'ours, pooled': lambda: convert_bn(models['pooled'], batches, estimator='pooled', verify=False),
        'torch update_bn': lambda: torch.optim.swa_utils.update_bn(batches, models['update_bn']),
    }
    try:
        from fvcore.nn.precise_bn import update_bn_stats
    except ImportError:
        return actions
    models['fvcore'].train()

    @torch.no_grad()
    def fvcore() -> None:
        update_bn_stats(models['fvcore'], batches, len(batches))

    return {**actions, 'fvcore update_bn_stats': fvcore}


def peak_bytes(action, device: torch.device) -> int:
    """The most bytes that were allocated at once while an action ran, on top of what there was."""
    if device.type == 'cuda':
        return peak_gpu_bytes(action)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        action()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == '[memory]']
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    source = source_network(args.arch, args.device)
    batches = [torch.randn(args.batch, 3, args.size, args.size, device=device) * 1.5 for _ in range(args.batches)]
    actions = contestants(source, batches)
    times = interleaved(actions, args.repeats, 1, device)
    memory = {name: peak_bytes(action, device) for name, action in actions.items()}
    channels = sum(layer.num_features for layer in source.modules() if isinstance(layer, nn.BatchNorm2d))
    rows = {
        name: dict(
            seconds=times[name]['wall'], ratio=round(times[name]['wall'] / times['forward']['wall'], 3),
            cpu_ratio=round(times[name]['cpu'] / times['forward']['cpu'], 3), peak_mib=round(memory[name] / 2**20, 2),
            float64_per_channel=round((memory[name] - memory['forward']) / 8 / channels, 2),
        )
        for name in actions
    }  # fmt: skip
    if 'fvcore update_bn_stats' not in rows:
        print('fvcore is not installed: its row is left out')
    hardware = torch.cuda.get_device_name(device) if device.type == 'cuda' else cpu_name()
    setting = f'{args.arch}, {args.batches} batches of {args.batch} at {args.size} px, {channels} channels'
    print(f'{setting}, {hardware}, torch {torch.__version__}, medians of {args.repeats}')
    columns = ('seconds', '/ forward', '/ forward, processor time', 'peak MiB', 'float64 per channel above forward')
    print('| | ' + ' | '.join(columns) + ' |\n' + '|---' * (len(columns) + 1) + '|')
    for name, row in rows.items():
        print(f'| {name} | ' + ' | '.join(f'{value:g}' for value in row.values()) + ' |')
    print(f'goals: time at most {TIME_GOAL} x forward, memory at most forward + {NUMBERS_PER_CHANNEL} numbers per channel')
    if args.out:
        with replacing(args.out) as path:
            path.write_text(json.dumps(dict(setting=setting, hardware=hardware, torch=torch.__version__, rows=rows), indent=1))


if __name__ == '__main__':
    main()

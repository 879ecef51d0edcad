"""The benchmark's outcome as a table of goals, Markdown and JSON."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from mmseg_dafm.core.files import replacing

GOALS = {
    'step / floor': (1.10, 'at most'),
    'saved / explicit': (0.45, 'at most'),
    'saved with checkpointing / explicit': (0.10, 'at most'),
    'W / step': (0.02, 'below'),
    'W, mean of 54 visits / step': (0.02, 'below'),
    'windows: one at a time / default': (1.5, 'at least'),
}


def environment(device: torch.device, threads: int) -> dict:
    """Hardware and versions."""
    return dict(
        hardware=torch.cuda.get_device_name(device) if device.type == 'cuda' else cpu_name(),
        threads=threads,
        precision='bfloat16 autocast' if device.type == 'cuda' else 'float32',
        load_average=[round(value, 1) for value in os.getloadavg()],
        cores=os.cpu_count(),
        python=platform.python_version(),
        torch=torch.__version__,
        diffusers=version('diffusers'),
    )


def cpu_name() -> str:
    """The processor's name as Linux gives it."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    found = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(found, platform.processor() or platform.machine())


def judge(name: str, value: float, gpu: bool) -> dict:
    """One goal: its limit, the measured ratio and whether it is met.

    Windows must be 1.5 times faster on a GPU; on a CPU they must not be slower, for which 5 % of noise is allowed.
    """
    limit, kind = GOALS[name]
    if name.startswith('windows') and not gpu:
        limit = 0.95
    met = {'at most': value <= limit, 'below': value < limit, 'at least': value >= limit}[kind]
    return dict(goal=name, limit=f'{kind} {limit:g}', measured=round(value, 4), met=met)


def markdown(result: dict) -> str:
    """The result as Markdown: environment, goals, times, bytes."""
    setting = ', '.join(f'{key} {value}' for key, value in result['environment'].items())
    lines = [f'# VPD benchmark, {result["arch"]}, batch {result["batch"]}', '', setting, '']
    lines += ['| size | goal | limit | measured | met |', '|---|---|---|---|---|']
    for row in result['goals']:
        lines.append(
            f'| {row["size"]} | {row["goal"]} | {row["limit"]} | {row["measured"]:g} | {"yes" if row["met"] else "no"} |'
        )
    for size, part in result['sizes'].items():
        lines += ['', f'## {size} px', '', '| | wall s | cpu s | saved GiB | peak GiB |', '|---|---|---|---|---|']
        for name in dict.fromkeys([*part['times'], *part['saved']]):
            times = part['times'].get(name, {})
            cells = [
                number(times.get('wall')),
                number(times.get('cpu')),
                gib(part['saved'].get(name)),
                gib(part['peak'].get(name)),
            ]
            lines.append(f'| {name} | {" | ".join(cells)} |')
    if result.get('windows'):
        windows = result['windows']
        lines += ['', f'## {windows["count"]} windows of {windows["crop"]} px on a {windows["image"]} image', '']
        lines += ['| windows at once | wall s | cpu s |', '|---|---|---|']
        lines += [f'| {name} | {number(v["wall"])} | {number(v["cpu"])} |' for name, v in windows['times'].items()]
    return '\n'.join(lines) + '\n'


def number(value: float | None) -> str:
    """Seconds, or nothing."""
    return '' if value is None else f'{value:.3g}'


def gib(value: int | None) -> str:
    """Bytes as GiB, or nothing."""
    return '' if value is None else f'{value / 2**30:.3f}'


def write(result: dict, folder: Path, stem: str) -> None:
    """Write JSON and Markdown; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in (('.json', json.dumps(result, indent=1)), ('.md', markdown(result))):
        with replacing(folder / f'{stem}{suffix}') as temporary:
            temporary.write_text(text)

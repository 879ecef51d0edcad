"""Time the sixteen corruptions: python tools/benchmark/corruptions.py [--size 1024 2048] [--repeats 5] [--out FILE.json].

Medians of interleaved rounds, one thread; the ratio to gaussian_noise compares machines.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch
from measure import interleaved

from mmseg_dafm.core.files import replacing
from mmseg_dafm.datasets.corruptions import CORRUPTIONS, corrupt, select_corruptions
from mmseg_dafm.datasets.toydrive.dataset import draw_path, drawn_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, nargs=2, default=(1024, 2048), metavar=('H', 'W'))
    parser.add_argument('--severity', type=int, default=3)
    parser.add_argument('--corruptions', nargs='+', default=['all'])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out', type=Path, help='JSON file of all values')
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = draw_path(drawn_path(0, tuple(args.size), 'clear', 0))
    names = select_corruptions([*args.corruptions, 'gaussian_noise'])
    # A generator of its own in each call: every round draws the same.
    actions = {name: partial(one, image, name, args.severity) for name in names}
    found = interleaved(actions, args.repeats, 1, torch.device('cpu'))
    base = found['gaussian_noise']['wall']
    print(f'{args.size[0]} x {args.size[1]}, severity {args.severity}, median of {args.repeats}')
    print(f'{"corruption":<18}{"seconds":>9}{"ratio":>8}')
    for name in sorted(names, key=CORRUPTIONS.index):
        found[name]['ratio'] = round(found[name]['wall'] / base, 2)
        print(f'{name:<18}{found[name]["wall"]:>9.3f}{found[name]["ratio"]:>8.2f}')
    print(f'{"all":<18}{sum(found[name]["wall"] for name in names):>9.3f}')
    if args.out:
        with replacing(args.out) as temporary:
            temporary.write_text(json.dumps(dict(size=args.size, severity=args.severity, corruptions=found), indent=1) + '\n')


def one(image: np.ndarray, name: str, severity: int) -> None:
    corrupt(image, name, severity, np.random.default_rng(0))


if __name__ == '__main__':
    main()

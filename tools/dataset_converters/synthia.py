"""Write SYNTHIA's labels in the 19 classes of Cityscapes: python tools/dataset_converters/synthia.py ROOT.

ROOT holds SYNTHIA-RAND-CITYSCAPES, RGB/*.png and GT/LABELS/*.png; GT/LABELS/*_labelTrainIds.png are written beside the labels.
What is there is not written again, so an interrupted run goes on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg_dafm.datasets.label_files import LabelJob, convert_and_report, read_first_channel
from mmseg_dafm.datasets.nineteen_classes import synthia_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder with RGB/ and GT/LABELS/')
    parser.add_argument('--threads', type=int, default=4)
    args = parser.parse_args()
    images = sorted((args.root / 'RGB').glob('*.png'))
    if not images:
        raise SystemExit(f'error: {args.root / "RGB"} holds no *.png: unpack SYNTHIA-RAND-CITYSCAPES there')
    labels = args.root / 'GT/LABELS'
    jobs = [LabelJob(image, labels / image.name, labels / f'{image.stem}_labelTrainIds.png') for image in images]
    convert_and_report(jobs, synthia_table(), labels, args.threads, read_first_channel)


if __name__ == '__main__':
    main()

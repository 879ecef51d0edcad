"""Write GTAV's labels in the 19 classes of Cityscapes: python tools/dataset_converters/gtav.py ROOT.

ROOT holds the release, images/*.png and labels/*.png; labels/*_labelTrainIds.png are written beside the labels. What is there is
not written again, so an interrupted run goes on. Labels whose size is not that of their image are listed and left out.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg_dafm.datasets.label_files import LabelJob, convert_and_report
from mmseg_dafm.datasets.nineteen_classes import gtav_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder with images/ and labels/')
    parser.add_argument('--threads', type=int, default=4)
    args = parser.parse_args()
    images = sorted((args.root / 'images').glob('*.png'))
    if not images:
        raise SystemExit(f'error: {args.root / "images"} holds no *.png: unpack the parts of the release there')
    labels = args.root / 'labels'
    jobs = [LabelJob(image, labels / image.name, labels / f'{image.stem}_labelTrainIds.png') for image in images]
    convert_and_report(jobs, gtav_table(), labels, args.threads)


if __name__ == '__main__':
    main()

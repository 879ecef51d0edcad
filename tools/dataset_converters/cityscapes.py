"""Write train ids beside the label ids of Cityscapes or Foggy Driving: python tools/dataset_converters/cityscapes.py ROOT.

ROOT holds leftImg8bit/ and gtFine/ or gtCoarse/ with *_labelIds.png; *_labelTrainIds.png are written beside them, as
cityscapesscripts' createTrainIdLabelImgs.py does. What is there and right is not written again, so an interrupted run goes on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg_dafm.core.image_files import visible
from mmseg_dafm.datasets.classes import gtav_table
from mmseg_dafm.datasets.label_files import LabelJob, convert_and_report, root_and_threads

ENDING = '_labelIds.png'


def jobs_of(root: Path) -> list[LabelJob]:
    """The labels of both kinds that belong to an image of ROOT; others, such as gtCoarse/train_extra without its images, stay."""
    jobs = []
    for kind in ('gtFine', 'gtCoarse'):
        for label in visible((root / kind).glob(f'*/*/*_{kind}{ENDING}'), root):
            stem = label.name.removesuffix(f'_{kind}{ENDING}')
            image = root / 'leftImg8bit' / label.parent.relative_to(root / kind) / f'{stem}_leftImg8bit.png'
            if image.is_file():
                jobs.append(LabelJob(image, label, label.with_name(f'{stem}_{kind}_labelTrainIds.png')))
    return jobs


def main() -> None:
    root, threads = root_and_threads(__doc__, 'folder with leftImg8bit/ and gtFine/ or gtCoarse/')
    jobs = jobs_of(root)
    if not jobs:
        raise SystemExit(f'error: {root} holds no image in leftImg8bit/ with *{ENDING} in gtFine/ or gtCoarse/: unpack both')
    convert_and_report(jobs, gtav_table(), root, threads)


if __name__ == '__main__':
    main()

"""Write the labels of Mapillary Vistas in the 19 classes of Cityscapes: python tools/dataset_converters/mapillary.py ROOT --half.

ROOT holds the release, SPLIT/images/*.jpg and SPLIT/v1.2/labels/*.png (SPLIT/labels/*.png in releases before 2.0). Written are
SPLIT/train_ids/*.png, or with --half the images and labels at half the size below ROOT/half, as the papers on domain
generalisation test them. What is there and right is not written again, so an interrupted run goes on.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmseg_dafm.core.files import replacing
from mmseg_dafm.core.image_files import visible
from mmseg_dafm.datasets.classes import MAPILLARY_MAPPINGS, MAPILLARY_NUM_IDS, mapillary_names, mapillary_table
from mmseg_dafm.datasets.driving import MAPILLARY_SPLITS
from mmseg_dafm.datasets.label_files import LabelJob, check_complete, check_threads, convert_all, print_left_out

RECORD = 'train_ids_mapping.txt'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder of the release')
    parser.add_argument('--splits', nargs='+', choices=MAPILLARY_SPLITS, default=['validation'])
    parser.add_argument('--half', action='store_true', help='images and labels at half the size, below ROOT/half')
    parser.add_argument('--mapping', choices=MAPILLARY_MAPPINGS, default='rein', help='which classes count (default: rein)')
    parser.add_argument('--threads', type=int, default=4)
    return parser.parse_args()


def check_names(root: Path) -> None:
    """Compare the release's own list of classes, where there is one, with ours."""
    files = [root / name for name in ('config_v1.2.json', 'config.json') if (root / name).is_file()]
    if not files:
        return
    labels = [label['readable'] for label in json.loads(files[0].read_text(encoding='utf-8'))['labels']]
    ours = {number: name for ids in mapillary_names().values() for number, name in ids.items()}
    wrong = [number for number, name in ours.items() if number >= len(labels) or labels[number] != name]
    if wrong or len(labels) != MAPILLARY_NUM_IDS:
        raise ValueError(
            f'{files[0]} lists {len(labels)} classes, and id {min(wrong) if wrong else len(labels) - 1} is another than in v1.2: '
            f'give the labels of v1.2.'
        )


def jobs_of(root: Path, split: str, half: bool) -> list[LabelJob]:
    """The labels of a split."""
    images = visible((root / split / 'images').glob('*.jpg'), root)
    folders = [folder for folder in (root / split / 'v1.2/labels', root / split / 'labels') if folder.is_dir()]
    if not images or not folders:
        raise ValueError(f'{root / split} needs images/*.jpg and v1.2/labels/*.png (or labels/*.png): unpack the release there')
    out = root / 'half' / split if half else root / split
    return [
        LabelJob(
            image, folders[0] / f'{image.stem}.png', out / f'train_ids/{image.stem}.png',
            out / 'images' / image.name if half else None,
        )
        for image in images
    ]  # fmt: skip


def check_mapping(folder: Path, mapping: str, labels: Path) -> None:
    """Refuse to go on in a folder whose labels were begun with the other mapping; record mapping and source."""
    record = folder / RECORD
    begun = record.read_text(encoding='utf-8').split() if record.is_file() else []
    if begun and begun[0] != mapping:
        raise ValueError(f'{folder} was begun with --mapping {begun[0]}: remove it, or keep to that mapping')
    with replacing(record) as path:
        path.write_text(f'{mapping}\nfrom the labels of Vistas v1.2 in {labels}\n', encoding='utf-8')


def main() -> None:
    args = parse_args()
    try:
        check_threads(args.threads)
        check_names(args.root)
        all_left_out = []
        for split in args.splits:
            jobs = jobs_of(args.root, split, args.half)
            check_mapping(jobs[0].target.parent.parent, args.mapping, jobs[0].label.parent)
            left_out = convert_all(jobs, mapillary_table(args.mapping), split, args.threads, print)
            print_left_out(left_out)
            all_left_out += left_out
            done = f'{len(jobs) - len(left_out)} of {len(jobs)}'
            print(f'{done} images of {split} have labels in 19 classes in {jobs[0].target.parent}')
        check_complete(all_left_out)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
    main()

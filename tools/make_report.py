"""Write the report of a suite: one HTML page with tables, scores of classes, predictions, pictures, protocol and runs.

python tools/make_report.py configs/suites/toydrive.py                  # work_dirs/toydrive/report.html
python tools/make_report.py SUITE --out FOLDER --page page.html --images 3  # FOLDER of the runs, as for run_suite.py
python tools/make_report.py SUITE --run vpd=work_dirs/mine_seed0 --run vpd=work_dirs/mine_seed1

The page needs no other file and no network. Predictions are made from the runs' checkpoints and kept in FOLDER/predictions.
"""

import argparse
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.experiments.report.page import write_report
from mmseg_dafm.experiments.suites.results import named_folders
from mmseg_dafm.experiments.suites.suite_load import load_suite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite', help='suite file')
    parser.add_argument('--out', type=Path, help='folder of the runs (default: work_dirs/<suite name>)')
    parser.add_argument('--page', type=Path, help='file of the page, or its folder (default: OUT/report.html)')
    parser.add_argument('--images', type=int, default=2, help='images per domain (default: 2)')
    parser.add_argument('--no-predictions', action='store_true', help='show no images')
    parser.add_argument('--seeds', type=int, nargs='+', help="instead of the suite's")
    parser.add_argument('--run', action='append', default=[], metavar='NAME=FOLDER', help='a run that was trained by hand')
    args = parser.parse_args()
    suite, folders = load_suite(args.suite), named_folders(args.run)
    out = args.out or Path('work_dirs') / Path(args.suite).stem
    by_hand = folders or any(run.kind == 'folder' for run in suite.runs)
    # a page of folders elsewhere needs no run in the default folder
    if not out.is_dir() and (args.out or not by_hand):
        raise ValueError(f'--out {out} is no folder: name the one where tools/run_suite.py has put the runs')
    if not args.no_predictions and args.images < 1:
        raise ValueError(f'--images must be 1 or more, got {args.images}: use --no-predictions to show none')
    writable_folder(out, '--out')
    if args.page is not None:
        writable_folder(args.page.parent, '--page')
    images = 0 if args.no_predictions else args.images
    print(write_report(suite, out, args.page, images, args.seeds, folders))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None

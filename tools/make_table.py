"""Write the table of a suite from the runs that are finished, as Markdown, CSV and LaTeX.

python tools/make_table.py configs/suites/domino_table2.py --out work_dirs/domino_table2
python tools/make_table.py configs/suites/domino_table2.py --run vpd=work_dirs/mine_seed0 --run vpd=work_dirs/mine_seed1

--run puts folders that were trained and tested by hand in the place of a suite's run: one folder per seed.
"""

import argparse
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.experiments.suites.plan import check_seeds
from mmseg_dafm.experiments.suites.results import check_folders, named_folders
from mmseg_dafm.experiments.suites.suite_load import load_suite
from mmseg_dafm.experiments.suites.write import write_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite', help='suite file')
    parser.add_argument('--out', type=Path, help='folder of runs and tables (default: work_dirs/<suite name>)')
    parser.add_argument('--seeds', type=int, nargs='+', help="instead of the suite's")
    parser.add_argument('--run', action='append', default=[], metavar='NAME=FOLDER', help='a run that was trained by hand')
    args = parser.parse_args()
    out = args.out or Path('work_dirs') / Path(args.suite).stem
    folders, suite = named_folders(args.run), load_suite(args.suite)
    check_seeds(args.seeds)
    if out.exists() and not out.is_dir():
        raise ValueError(f'--out {out} is a file: name a folder')
    writable_folder(out, '--out')
    # folders by hand need none of the suite's own
    if not out.exists() and not folders and any(run.kind != 'folder' for run in suite.runs):
        raise ValueError(f'--out {out} does not exist, so nothing was run there: correct it, or call tools/run_suite.py first')
    for warning in check_folders(suite, folders):
        print(f'warning: {warning}', file=sys.stderr)
    print(write_tables(suite, out, args.seeds, folders))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None

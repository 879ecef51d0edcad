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

from mmseg_dafm.suites.suite_load import load_suite
from mmseg_dafm.suites.write import write_tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite', help='suite file')
    parser.add_argument('--out', type=Path, help='folder of runs and tables (default: work_dirs/<suite name>)')
    parser.add_argument('--seeds', type=int, nargs='+', help="instead of the suite's")
    parser.add_argument('--run', action='append', default=[], metavar='NAME=FOLDER', help='a run that was trained by hand')
    args = parser.parse_args()
    folders: dict[str, list[str]] = {}
    for text in args.run:
        name, sign, folder = text.partition('=')
        if not sign or not folder:
            raise ValueError(f'--run {text!r} must have the form NAME=FOLDER')
        folders.setdefault(name, []).append(folder)
    out = args.out or Path('work_dirs') / Path(args.suite).stem
    print(write_tables(load_suite(args.suite), out, args.seeds, folders))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None

"""Compare criteria and estimations: python tools/analysis_tools/compare_scores.py half0.safetensors half1.safetensors.

Prints the Jaccard index of the selected sets and the rank correlation, for each two criteria of a file and for each criterion
between files. Two files of disjoint images (--part of tools/estimate_dr_fim.py) also give the null line: how much F changes
without any shift.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmseg_dafm.analysis.score_overlap import change_curves, compare, draw_curves, to_markdown
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.fishertune.criteria import coef_of, fisher_criteria
from mmseg_dafm.fishertune.score_file import differences, load_fisher, some


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('scores', type=Path, nargs='+', help='files of FisherTuneHook or tools/estimate_dr_fim.py')
    parser.add_argument('--criteria', nargs='+', default=list(fisher_criteria()), choices=fisher_criteria())
    parser.add_argument('--share', type=float, default=0.05, help="selected share of the backbone's parameters")
    parser.add_argument('--coef', default='abs', help='weight of the domain term: abs, raw or a number')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/compare_scores'), help='folder of the tables and the picture')
    args = parser.parse_args()
    names = [path.stem for path in args.scores]
    if len(set(names)) < len(names):
        names = [str(path) for path in args.scores]
    try:
        writable_folder(args.out, '--out')
        files = {name: load_fisher(path) for name, path in zip(names, args.scores, strict=True)}
        agreements = compare(files, args.criteria, args.share, coef_of(args.coef))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    first, *others = files.items()
    for name, fisher in others:
        apart = differences(*(each.meta.get('conditions', {}) for each in (first[1], fisher)))
        if apart:
            print(f'warning: {first[0]} and {name} were estimated under different conditions: {some(apart)}', file=sys.stderr)
    curves = change_curves(files)
    text = to_markdown(agreements, curves)
    record = dict(share=args.share, agreements=[asdict(each) for each in agreements])
    record['median_change'] = {name: float(values.median()) for name, values in curves.items()}
    with replacing(args.out / 'overlap.md') as path:
        path.write_text(text)
    with replacing(args.out / 'overlap.json') as path:
        path.write_text(json.dumps(record, indent=1))
    with replacing(args.out / 'overlap.png') as path:
        draw_curves(curves, path)
    print(text + str(args.out))


if __name__ == '__main__':
    main()

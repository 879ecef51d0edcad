"""Draw which blocks and kinds of weights criteria select: python tools/analysis_tools/plot_sensitivity.py scores.safetensors."""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmseg_dafm.analysis.score_overlap import selected_size
from mmseg_dafm.core.files import replacing, writable_folder
from mmseg_dafm.fishertune.criteria import coef_of, fisher_criteria, ranking, score
from mmseg_dafm.fishertune.score_file import load_fisher
from mmseg_dafm.fishertune.summary import jaccard, summarise, table
from mmseg_dafm.hooks.fisher_report import draw_sensitivity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('scores', type=Path, help='file of FisherTuneHook or tools/estimate_dr_fim.py')
    parser.add_argument('--criteria', nargs='+', default=['rank', 'F', 'dF'], choices=fisher_criteria())
    parser.add_argument('--share', type=float, default=0.05, help="selected share of the backbone's parameters")
    parser.add_argument('--coef', default='abs', help='abs, raw or a number')
    parser.add_argument('--out', type=Path, help='picture (default: beside the scores); a .json of the same name is written too')
    args = parser.parse_args()
    try:
        draw(args)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None


def draw(args: argparse.Namespace) -> None:
    """Write the picture and the numbers, print the tables.

    Raises:
        ValueError: For files or options that cannot be.
        FileNotFoundError: If there are no scores.
    """
    out = args.out or args.scores.with_name(f'{args.scores.stem}_sensitivity.png')
    fisher = load_fisher(args.scores)
    writable_folder(out.parent, '--out')
    coef = coef_of(args.coef)
    candidates, count = fisher.candidates, selected_size(fisher, args.share)
    panels, tops = {}, {}
    for criterion in args.criteria:
        scores = score(criterion, fisher, coef)
        tops[criterion] = ranking(scores, candidates, count, criterion)
        panels[criterion] = summarise(tops[criterion], fisher.clean, candidates, scores)
        print(f'{criterion}: share of weights selected\n{table(panels[criterion])}\n')
    first = args.criteria[0]
    overlap = {name: jaccard(tops[first], top) for name, top in tops.items() if name != first}
    with replacing(out) as path:
        draw_sensitivity(panels, path, overlap)
    record = dict(share=args.share, overlap=overlap, parts={name: [p.to_dict() for p in parts] for name, parts in panels.items()})
    with replacing(out.with_suffix('.json')) as path:
        path.write_text(json.dumps(record, indent=1))
    print(out)


if __name__ == '__main__':
    main()

"""What a selection of weights leaves in the work dir: numbers and a picture."""

import json
import logging
import os.path as osp
from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor

from mmseg_dafm.core.files import replacing
from mmseg_dafm.fishertune.combine import coefficient
from mmseg_dafm.fishertune.scores import DomainFisher, ranking, score
from mmseg_dafm.fishertune.summary import jaccard, summarise, table
from mmseg_dafm.hooks.sensitivity import draw_sensitivity

SELECTION, PICTURE = 'fisher_selection.json', 'fisher_sensitivity.png'


def write_selection(
    folder: str, selected, best: Tensor, scores: Mapping[str, Tensor], fisher: DomainFisher | None, settings: Mapping
) -> None:
    """Write ``fisher_selection.json`` and ``fisher_sensitivity.png``, and log the share of each kind in each block.

    Args:
        folder: The work dir.
        selected: Holds ``candidates``, ``tensors`` and ``backbone_parameters``, as the optimizer wrapper does.
        best: The ranking.
        scores: By tensor name.
        fisher: What the scores come from; None for criteria without data.
        settings: ``criterion``, ``coef`` and what else is to be recorded.
    """
    criterion = settings['criterion']
    parts = summarise(best, selected.tensors, selected.candidates, scores)
    print_log(f'FisherTuneHook: share of weights selected by {criterion!r}:\n{table(parts)}', 'current')
    record = dict(settings, selected=len(best), backbone=selected.backbone_parameters)
    record.update(estimation=fisher.meta if fisher else None, parts=[part.to_dict() for part in parts])
    panels, overlap = {criterion: parts}, {}
    if fisher is not None:
        for other in (name for name in ('F', 'dF') if name != criterion and (name == 'F' or fisher.has_shift)):
            others = score(other, fisher)
            ids = ranking(others, selected.candidates, len(best))
            panels[other] = summarise(ids, selected.tensors, selected.candidates, others)
            overlap[other] = jaccard(ids, best)
        record.update(damping=fisher.damping, coefficient=coefficient(fisher.strengths, settings['coef']), overlap=overlap)
    with replacing(osp.join(folder, SELECTION)) as path:
        path.write_text(json.dumps(record, indent=1))
    try:
        with replacing(osp.join(folder, PICTURE)) as path:
            draw_sensitivity(panels, path, overlap)
    except (RuntimeError, OSError) as error:
        print_log(f'FisherTuneHook: no picture: {error}', 'current', logging.WARNING)

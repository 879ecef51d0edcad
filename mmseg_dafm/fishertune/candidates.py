"""The weights that FisherTune may select: rows of the query, key, value and feed-forward matrices of transformer blocks."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

KINDS = ('q', 'k', 'v', 'ffn')


@dataclass(frozen=True)
class Candidate:
    """Rows of one tensor that belong to one kind of weight.

    A fused projection stays one tensor and gives three candidates, so checkpoints keep their ordinary keys.

    Attributes:
        parameter: Name of the tensor, relative to the backbone.
        rows: First row and the row after the last, along dimension 0.
        kind: ``'q'``, ``'k'``, ``'v'`` or ``'ffn'``.
        block: Number of the block, counted from 0 in the order of the backbone's parameters.
        path: Module path of the block.
    """

    parameter: str
    rows: tuple[int, int]
    kind: str
    block: int
    path: str


@dataclass(frozen=True)
class Rule:
    """How an architecture names its weights.

    Attributes:
        tail: Regular expression for what follows the path of a block; ``{leaf}`` stands for ``weight`` or ``bias``.
        parts: Kinds of the equal parts of dimension 0, in order.
    """

    tail: str
    parts: tuple[str, ...]


RULES = (
    # timm's ViTs (DINOv2, DINOv3, CLIP, MAE, SAM, BEiT) and the original releases
    Rule(r'attn\.qkv\.{leaf}', ('q', 'k', 'v')),
    # XCiT's and EdgeNeXt's attention across channels; PVT
    Rule(r'xca\.qkv\.{leaf}', ('q', 'k', 'v')),
    Rule(r'attn\.q\.{leaf}', ('q',)),
    Rule(r'attn\.kv\.{leaf}', ('k', 'v')),
    # EVA02 with sub-layer norm; Hugging Face's models, whose attention is called self_attn or attention
    Rule(r'(?:(?:self_)?attn|attention)\.q_(?:proj\.)?{leaf}', ('q',)),
    Rule(r'(?:(?:self_)?attn|attention)\.k_(?:proj\.)?{leaf}', ('k',)),
    Rule(r'(?:(?:self_)?attn|attention)\.v_(?:proj\.)?{leaf}', ('v',)),
    # nn.MultiheadAttention: open_clip, mmseg's VisionTransformer, nn.TransformerEncoderLayer
    Rule(r'(?:self_)?attn\.(?:attn\.)?in_proj_{leaf}', ('q', 'k', 'v')),
    Rule(r'mlp\.(?:fc1|fc2|fc1_g|fc1_x|w12|w1|w2|w3|c_fc|c_proj|lin1|lin2)\.{leaf}', ('ffn',)),
    # mmcv's FFN, and SegFormer's, whose matrices are 1x1 convolutions
    Rule(r'ffn\.layers\.(?:0\.0|[014])\.{leaf}', ('ffn',)),
    Rule(r'linear[12]\.{leaf}', ('ffn',)),
    # diffusers: self- and cross-attention of a U-Net's transformer blocks
    Rule(r'attn[12]\.to_q\.{leaf}', ('q',)),
    Rule(r'attn[12]\.to_k\.{leaf}', ('k',)),
    Rule(r'attn[12]\.to_v\.{leaf}', ('v',)),
    Rule(r'ff\.net\.(?:0\.proj|2)\.{leaf}', ('ffn',)),
    # mmseg's Swin
    Rule(r'attn\.w_msa\.qkv\.{leaf}', ('q', 'k', 'v')),
    # Hugging Face's ViT and DINOv2 before transformers 5
    Rule(r'attention\.attention\.query\.{leaf}', ('q',)),
    Rule(r'attention\.attention\.key\.{leaf}', ('k',)),
    Rule(r'attention\.attention\.value\.{leaf}', ('v',)),
    Rule(r'(?:intermediate|output)\.dense\.{leaf}', ('ffn',)),
)


def find_candidates(
    backbone: nn.Module,
    kinds: Sequence[str] = KINDS,
    include_bias: bool = False,
    extra_rules: Iterable[Rule | Mapping] = (),
    groups: Sequence[Mapping | str] | None = None,
) -> list[Candidate]:
    r"""Find theta = [theta_Q, theta_K, theta_V, theta_FFN] of all blocks.

    Output projections, norms, patch and position embeddings are no candidates, nor are convolutions, but for 1x1 ones without
    groups, which are matrices.

    Args:
        backbone: Any model with transformer blocks in a numbered list.
        kinds: The kinds that are wanted.
        include_bias: Take the biases, too; equation 3 lists matrices alone.
        extra_rules: Naming rules beside :data:`RULES`, for another architecture: ``Rule(r'mixer\.to_qkv\.{leaf}', ('q', 'k',
            'v'))``, or in a config ``dict(tail=..., parts=...)``.
        groups: Only candidates of one of these groups: ``dict(kind='q', blocks=(0, 7))``, first and last block counted from 0,
            or in short ``'q:0-7'``.

    Returns:
        Candidates in the order of the backbone's parameters.

    Raises:
        ValueError: For unknown kinds, a fused tensor that cannot be split, or if a kind is found nowhere, or not in a block that
            has matrices of other names: an architecture that is known by half would be tuned by half.

    Source: FisherTune, equation 3.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds or isinstance(kinds, str):
        raise ValueError(f'kinds={kinds!r} must be a list out of {KINDS}.')
    leaves = ('weight', 'bias') if include_bias else ('weight',)
    rules = (*extra_rules_of(extra_rules), *RULES)
    patterns = [
        (re.compile(rf'(?P<path>(?:.+?\.)?\w+\.\d+)\.{rule.tail.replace("{leaf}", leaf)}'), rule.parts)
        for rule in rules
        for leaf in leaves
    ]
    spatial = _spatial_convolutions(backbone)
    found: list[Candidate] = []
    blocks: dict[str, int] = {}
    known: set[str] = set()
    for name, parameter in backbone.named_parameters():
        match, parts = next(((hit, parts) for pattern, parts in patterns if (hit := pattern.fullmatch(name))), (None, ()))
        # convolutions may have a linear layer's name
        if match is None or name.rpartition('.')[0] in spatial:
            continue
        path, rows = match['path'], len(parameter)
        if rows % len(parts):
            raise ValueError(f'{name} has {rows} rows, which do not split into {len(parts)} equal parts {parts}.')
        block, size = blocks.setdefault(path, len(blocks)), rows // len(parts)
        known.add(name)
        found += [Candidate(name, (i * size, (i + 1) * size), kind, block, path) for i, kind in enumerate(parts) if kind in kinds]
    _check_kinds(backbone, kinds, found, blocks, known, spatial)
    return found if groups is None else in_groups(found, groups, len(blocks))


def _spatial_convolutions(backbone: nn.Module) -> set[str]:
    """Paths of the convolutions that are no matrices: they have a kernel of more than one pixel, or groups."""
    return {
        path
        for path, module in backbone.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd) and (math.prod(module.kernel_size) > 1 or module.groups > 1)
    }


def _check_kinds(
    backbone: nn.Module,
    kinds: Sequence[str],
    found: Sequence[Candidate],
    blocks: Iterable[str],
    known: Collection[str],
    spatial: Collection[str],
) -> None:
    """Refuse an architecture whose weights are not all known.

    Raises:
        ValueError: As :func:`find_candidates`.
    """
    name = type(backbone).__name__
    matrices = [n for n, p in backbone.named_parameters() if p.ndim > 1 and n.rpartition('.')[0] not in spatial]
    nowhere = sorted(set(kinds) - {candidate.kind for candidate in found})
    if nowhere and spatial and not _attends(backbone):
        only = ": kinds=['ffn'] takes the matrices of its blocks alone" if found else ''
        raise ValueError(
            f'{name} is a convolutional network without attention, and FisherTune selects from the {nowhere} weights of '
            f'transformer blocks, which it has not: use a transformer backbone{only}.'
        )
    if not found:
        raise ValueError(
            f'{name} has no weights of the kinds {tuple(kinds)} under the names of any rule; its matrices are called '
            f'{matrices[:4]}: add a rule for them (extra_rules).'
        )
    for path in blocks:
        missing = sorted(set(kinds) - {candidate.kind for candidate in found if candidate.path == path})
        own = [n for n in matrices if n.startswith(f'{path}.')]
        # a block without other matrices, as the convolutional ones of hybrids, lacks nothing
        if missing and (set(own) - set(known) or set(missing) & set(nowhere)):
            raise ValueError(
                f'{name} has no weights of the kinds {missing} in {path}, whose matrices are {own}: add a rule for them '
                '(extra_rules), or leave these kinds out.'
            )


def _attends(backbone: nn.Module) -> bool:
    """Whether a module or parameter is called as attention usually is."""
    names = (name.lower() for name, _ in (*backbone.named_modules(), *backbone.named_parameters()))
    return any(re.search(r'(^|[._])att(n|en)|qkv|mixer|xca|to_q', name) for name in names)


def in_groups(candidates: Sequence[Candidate], groups: Sequence[Mapping | str], blocks: int) -> list[Candidate]:
    """Candidates of one kind in one range of blocks each, as in the pairs of groups that the paper tunes.

    Args:
        candidates: Of all kinds and blocks.
        groups: ``dict(kind='q', blocks=(0, 7))`` or ``'q:0-7'``.
        blocks: Number of blocks of the backbone.

    Raises:
        ValueError: If a group is no such dict, names blocks that do not exist, or holds no candidate.

    Source: FisherTune, figure 3.
    """
    found = set()
    for given in groups:
        group = given
        if isinstance(group, str) and (match := re.fullmatch(r'(\w+):(\d+)-(\d+)', group)):
            group = dict(kind=match[1], blocks=(int(match[2]), int(match[3])))
        if not isinstance(group, Mapping) or set(group) != {'kind', 'blocks'} or len(group['blocks']) != 2:
            raise ValueError(f"a group is dict(kind='q', blocks=(first, last)) or 'q:first-last', got {given!r}.")
        first, last = group['blocks']
        if not 0 <= first <= last < blocks:
            raise ValueError(
                f'candidates.groups: {given!r} names blocks that do not exist: this backbone has blocks 0 to {blocks - 1}.'
            )
        own = [c for c in candidates if c.kind == group['kind'] and first <= c.block <= last]
        if not own:
            raise ValueError(f'candidates.groups: {given!r} holds no weights: kinds are {sorted({c.kind for c in candidates})}.')
        found.update(own)
    return [candidate for candidate in candidates if candidate in found]


def extra_rules_of(rules: Iterable[Rule | Mapping]) -> tuple[Rule, ...]:
    """Rules from a config.

    Raises:
        ValueError: If one lacks ``tail`` or ``parts``, or has other keys.
    """
    if isinstance(rules, str | Mapping):
        raise ValueError(f'extra_rules must be a list of dict(tail=..., parts=...), got {rules!r}.')
    found = []
    for rule in rules:
        if not isinstance(rule, Rule):
            if not isinstance(rule, Mapping) or set(rule) != {'tail', 'parts'}:
                raise ValueError(f'a rule of extra_rules is dict(tail=..., parts=...), got {rule!r}.')
            if isinstance(rule['parts'], str) or not rule['parts'] or set(rule['parts']) - set(KINDS):
                raise ValueError(f'parts of a rule of extra_rules must be a list out of {KINDS}, got {rule["parts"]!r}.')
            rule = Rule(rule['tail'], tuple(rule['parts']))
        try:
            re.compile(rule.tail.replace('{leaf}', 'weight'))
        except re.error as error:
            raise ValueError(f'tail={rule.tail!r} of extra_rules is no regular expression: {error}.') from None
        found.append(rule)
    return tuple(found)


def candidate_tensors(backbone: nn.Module, candidates: Sequence[Candidate]) -> dict[str, nn.Parameter]:
    """The tensors that hold candidates, by name, in the order of the backbone's parameters.

    An index into the concatenation of these tensors, each flattened, is a *flat id*.
    """
    names = {candidate.parameter for candidate in candidates}
    return {name: parameter for name, parameter in backbone.named_parameters() if name in names}


def narrow(parts: Mapping[str, Tensor], candidates: Sequence[Candidate]) -> Mapping[str, Tensor]:
    """The candidates' rows of tensors of the parameters' shapes; the same object where all rows are candidates."""
    rows: dict[str, list[slice]] = {}
    for candidate in candidates:
        rows.setdefault(candidate.parameter, []).append(slice(*candidate.rows))
    if all(sum(row.stop - row.start for row in rows[name]) == len(part) for name, part in parts.items()):
        return parts
    return {name: torch.cat([part[row] for row in rows[name]]) for name, part in parts.items()}


def block_paths(candidates: Sequence[Candidate]) -> list[str]:
    """Module paths of the blocks, in the order of their numbers.

    Raises:
        ValueError: If a block has no candidate.
    """
    paths = dict(sorted({(candidate.block, candidate.path) for candidate in candidates}))
    missing = sorted(set(range(max(paths) + 1)) - set(paths))
    if missing:
        raise ValueError(
            f'candidates.groups or candidates.kinds leaves the blocks {missing} without candidates, and Fisher information is '
            "estimated with shifts behind blocks: take a criterion without data (criterion='random'), or groups that touch every "
            'block.'
        )
    return list(paths.values())


def block_widths(candidates: Sequence[Candidate], tensors: Mapping[str, Tensor]) -> list[int]:
    """Number of channels that enter each block, in the order of :func:`block_paths`: columns of its queries, or first matrix."""
    found: dict[int, int] = {}
    for candidate in sorted(candidates, key=lambda one: KINDS.index(one.kind)):
        if tensors[candidate.parameter].ndim > 1:
            found.setdefault(candidate.block, tensors[candidate.parameter].shape[1])
    return [found[block] for block in sorted(found)]


def parameter_count(backbone: nn.Module) -> int:
    """Number of parameters of the whole backbone, frozen ones included: what delta_min and delta_max are shares of."""
    return sum(parameter.numel() for parameter in backbone.parameters())

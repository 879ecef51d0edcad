"""The weights that FisherTune may select: rows of the query, key, value and feed-forward matrices of transformer blocks."""

import re
from collections.abc import Iterable, Mapping, Sequence
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
    # EVA02 with sub-layer norm; Hugging Face's models, whose attention is called self_attn or attention
    Rule(r'(?:(?:self_)?attn|attention)\.q_(?:proj\.)?{leaf}', ('q',)),
    Rule(r'(?:(?:self_)?attn|attention)\.k_(?:proj\.)?{leaf}', ('k',)),
    Rule(r'(?:(?:self_)?attn|attention)\.v_(?:proj\.)?{leaf}', ('v',)),
    # nn.MultiheadAttention: open_clip, mmseg's VisionTransformer, nn.TransformerEncoderLayer
    Rule(r'(?:self_)?attn\.(?:attn\.)?in_proj_{leaf}', ('q', 'k', 'v')),
    Rule(r'mlp\.(?:fc1|fc2|fc1_g|fc1_x|w12|w1|w2|w3|c_fc|c_proj|lin1|lin2)\.{leaf}', ('ffn',)),
    Rule(r'ffn\.layers\.(?:0\.0|1)\.{leaf}', ('ffn',)),
    Rule(r'linear[12]\.{leaf}', ('ffn',)),
    # diffusers: self- and cross-attention of a U-Net's transformer blocks
    Rule(r'attn[12]\.to_q\.{leaf}', ('q',)),
    Rule(r'attn[12]\.to_k\.{leaf}', ('k',)),
    Rule(r'attn[12]\.to_v\.{leaf}', ('v',)),
    Rule(r'ff\.net\.(?:0\.proj|2)\.{leaf}', ('ffn',)),
    # PVT: one matrix for keys and values; XCiT and EdgeNeXt
    Rule(r'attn\.q\.{leaf}', ('q',)),
    Rule(r'attn\.kv\.{leaf}', ('k', 'v')),
    Rule(r'xca\.qkv\.{leaf}', ('q', 'k', 'v')),
    # mmseg's SegFormer: 1x1 convolutions around a depthwise one
    Rule(r'ffn\.layers\.[04]\.{leaf}', ('ffn',)),
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

    Output projections, norms, patch and position embeddings are no candidates. A convolution with a 1x1 kernel is a matrix.

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
        ValueError: For unknown kinds, a fused tensor that cannot be split, or if a kind is found nowhere or not in every
            block: an architecture that is known by half would be tuned by half.

    Source: FisherTune, equation 3.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds or isinstance(kinds, str):
        raise ValueError(f'kinds={kinds!r} must be a list out of {KINDS}.')
    leaves = ('weight', 'bias') if include_bias else ('weight',)
    rules = (*extra_rules_of(extra_rules), *RULES)
    patterns = [
        (re.compile(rf'(?P<path>(?:.+?\.)?\w+\.\d+)\.{rule.tail.format(leaf=leaf)}'), rule.parts)
        for rule in rules
        for leaf in leaves
    ]
    found, blocks = [], {}
    for name, parameter in backbone.named_parameters():
        match, parts = next(((hit, parts) for pattern, parts in patterns if (hit := pattern.fullmatch(name))), (None, ()))
        # convolutions of hybrid models may have a linear layer's name; with a 1x1 kernel they are matrices
        if match is None or not is_matrix(parameter) and parameter.ndim > 1:
            continue
        path, rows = match['path'], len(parameter)
        if rows % len(parts):
            raise ValueError(f'{name} has {rows} rows, which do not split into {len(parts)} equal parts {parts}.')
        block, size = blocks.setdefault(path, len(blocks)), rows // len(parts)
        found += [Candidate(name, (i * size, (i + 1) * size), kind, block, path) for i, kind in enumerate(parts) if kind in kinds]
    if not found:
        some = [name for name, parameter in backbone.named_parameters() if parameter.ndim > 1][:4] or ['none']
        if all(parameter.ndim in (0, 1, 4) for parameter in backbone.parameters()):
            raise ValueError(
                f'{type(backbone).__name__} is a convolutional network ({some[0]} and others are kernels): FisherTune selects '
                'queries, keys, values and feed-forward weights of transformer blocks. Take a transformer as the backbone.'
            )
        raise ValueError(
            f'{type(backbone).__name__} has no weights of the kinds {tuple(kinds)} under the names of any rule; its matrices are '
            f'called {some}: add a rule for them (extra_rules).'
        )
    for path in blocks:
        missing = sorted(set(kinds) - {candidate.kind for candidate in found if candidate.path == path})
        if missing:
            names = [name for name, parameter in backbone.named_parameters() if name.startswith(path) and parameter.ndim > 1]
            raise ValueError(
                f'{type(backbone).__name__} has no weights of the kinds {missing} in {path}, whose matrices are {names}: add a '
                'rule for them (extra_rules), or leave these kinds out.'
            )
    return found if groups is None else in_groups(found, groups)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a tensor acts as a matrix: (out, in), or a convolution's (out, in, 1, 1)."""
    return parameter.ndim == 2 or (parameter.ndim == 4 and parameter.shape[2:] == (1, 1))


def in_groups(candidates: Sequence[Candidate], groups: Sequence[Mapping | str]) -> list[Candidate]:
    """Candidates of one kind in one range of blocks each, as in the pairs of groups that the paper tunes.

    Args:
        candidates: Of all kinds and blocks.
        groups: ``dict(kind='q', blocks=(0, 7))`` or ``'q:0-7'``.

    Raises:
        ValueError: If a group is no such dict, or holds no candidate.

    Source: FisherTune, figure 3.
    """
    found = set()
    for group in groups:
        if isinstance(group, str) and (match := re.fullmatch(r'(\w+):(\d+)-(\d+)', group)):
            group = dict(kind=match[1], blocks=(int(match[2]), int(match[3])))
        if isinstance(group, str) or set(group) != {'kind', 'blocks'} or len(group['blocks']) != 2:
            raise ValueError(f"a group is dict(kind='q', blocks=(first, last)) or 'q:first-last', got {group!r}.")
        first, last = group['blocks']
        own = [c for c in candidates if c.kind == group['kind'] and first <= c.block <= last]
        if not own:
            known = sorted({c.kind for c in candidates}), max(c.block for c in candidates)
            raise ValueError(f'group {dict(group)} holds no weights: kinds are {known[0]}, blocks 0 to {known[1]}.')
        if last > max(c.block for c in candidates):
            raise ValueError(f'group {dict(group)} ends behind the last block, which is {max(c.block for c in candidates)}.')
        found.update(own)
    return [candidate for candidate in candidates if candidate in found]


def extra_rules_of(rules: Iterable[Rule | Mapping]) -> tuple[Rule, ...]:
    """Rules from a config.

    Raises:
        ValueError: If one lacks ``tail`` or ``parts``, or has other keys.
    """
    found = []
    if isinstance(rules, str | Mapping):
        raise ValueError(f'extra_rules={rules!r} must be a list of dict(tail=..., parts=...).')
    for rule in rules:
        if not isinstance(rule, Rule):
            if not isinstance(rule, Mapping):
                raise ValueError(f'a rule is dict(tail=..., parts=...) with parts out of {KINDS}, got {rule!r}.')
            if set(rule) != {'tail', 'parts'} or set(rule['parts']) - set(KINDS):
                raise ValueError(f'a rule is dict(tail=..., parts=...) with parts out of {KINDS}, got {dict(rule)}.')
            rule = Rule(rule['tail'], tuple(rule['parts']))
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
            f'candidates.groups leaves the blocks {missing} without candidates, and Fisher information is estimated with shifts '
            "behind blocks: take a criterion without data (criterion='random'), or groups that touch every block."
        )
    return list(paths.values())


def parameter_count(backbone: nn.Module) -> int:
    """Number of parameters of the whole backbone, frozen ones included: what delta_min and delta_max are shares of."""
    return sum(parameter.numel() for parameter in backbone.parameters())

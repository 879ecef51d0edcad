"""How many weights are trained at each step."""

import math

MODES = ('ratio', 'threshold', 'constant')


def keep_ratio(progress: float, delta_min: float, delta_max: float, rate: float = math.log(10)) -> float:
    """p(t) = delta_min + (delta_max - delta_min) (1 - exp(-k t/T)) / (1 - exp(-k)): the share of weights that train.

    With delta_min = 1 %, delta_max = 5 % and k = ln 10: 1, 2.95, 4.04, 4.65 and 5 % at t/T = 0, 1/4, 1/2, 3/4 and 1.

    Args:
        progress: t/T in [0, 1].
        delta_min: Share at the start, in (0, 1].
        delta_max: Share at the end.
        rate: k; larger grows earlier, 0 grows linearly.

    Raises:
        ValueError: Out of range.

    Deviation: Equation 16 prints a value that falls from delta_max and ends at delta_min + 0.37 (delta_max - delta_min), while
    the text lets the share rise from delta_min to delta_max. This follows the text, normalised to end at delta_max.

    Source: FisherTune, section 3.3.3.
    """
    check_deltas(delta_min, delta_max)
    if not 0 <= progress <= 1:
        raise ValueError(f't/T={progress} must lie in [0, 1].')
    grown = progress if rate == 0 else math.expm1(-rate * progress) / math.expm1(-rate)
    return delta_min + (delta_max - delta_min) * grown


def threshold(progress: float, delta_min: float, delta_max: float) -> float:
    """DRF_thresh(t) = delta_min + (delta_max - delta_min) exp(-t/T), as printed.

    Args:
        progress: t/T in [0, 1].
        delta_min: In [0, 1].
        delta_max: In [0, 1].

    Source: FisherTune, equation 16.
    """
    check_deltas(delta_min, delta_max)
    return delta_min + (delta_max - delta_min) * math.exp(-progress)


def trained_count(mode: str, progress: float, delta_min: float, delta_max: float, base: int, candidates: int, rate: float) -> int:
    """Number of weights that train at a point of the schedule.

    Args:
        mode: ``'ratio'``: :func:`keep_ratio` of ``base``; ``'constant'``: delta_max of ``base``; ``'threshold'``: equation 16 on
            scores that are mapped to their quantiles in [0, 1], where the scores above a threshold h are 1 - h of the
            candidates.
        progress: t/T in [0, 1].
        delta_min: Share in (0, 1].
        delta_max: Share in (0, 1].
        base: Number of parameters of the backbone.
        candidates: Number of candidate weights, which is the largest answer.
        rate: k of :func:`keep_ratio`.

    Raises:
        ValueError: Unknown mode, or out of range.
    """
    if mode == 'ratio':
        count = keep_ratio(progress, delta_min, delta_max, rate) * base
    elif mode == 'constant':
        check_deltas(delta_min, delta_max)
        count = delta_max * base
    elif mode == 'threshold':
        count = (1 - threshold(progress, delta_min, delta_max)) * candidates
    else:
        raise ValueError(f'schedule={mode!r} is unknown: use one of {MODES}.')
    return min(max(math.floor(count + 1e-9), 1), candidates)


def check_deltas(delta_min: float, delta_max: float) -> None:
    """Refuse shares out of range.

    Raises:
        ValueError: Naming both.
    """
    if not 0 < delta_min <= delta_max <= 1:
        raise ValueError(
            f'0 < delta_min <= delta_max <= 1 is needed, got delta_min={delta_min}, delta_max={delta_max}: 0.05 is 5 %.'
        )

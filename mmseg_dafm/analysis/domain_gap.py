"""How far apart domains lie in feature space, in numbers: MMD with a permutation test, and a domain classifier.

A t-SNE picture alone misleads: its distances and the gaps between its clusters mean nothing. These numbers come with their
null line, what two random halves of one domain give.
"""

from collections.abc import Mapping, Sequence

import numpy as np

# widths of the kernels, in units of the median distance
SCALES = (0.5, 1.0, 2.0)
FOLDS = 5


def squared_distances(x: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances ``(N, N)`` between rows of ``(N, D)``."""
    squares = (x**2).sum(1)
    return np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0)


def kernel(x: np.ndarray) -> np.ndarray:
    r"""Mean of Gaussian kernels ``(N, N)`` whose widths follow from the data.

    .. math:: k(a, b) = \frac{1}{3} \sum_{s \in \{1/2, 1, 2\}} \exp \left( - \frac{\|a - b\|^2}{2 s^2 m} \right)

    with m the median squared distance between different rows: features of any scale, of any network, get comparable kernels.

    Args:
        x: ``(N, D)``, both domains together.

    Source: the median heuristic of Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, section 8.
    """
    distances = squared_distances(np.asarray(x, np.float64))
    median = np.median(distances[np.triu_indices(len(x), 1)])
    # all rows equal: nothing tells the domains apart
    median = median if median > 0 else 1.0
    return np.mean([np.exp(-distances / (2 * scale**2 * median)) for scale in SCALES], axis=0)


def mmd_squared(gram: np.ndarray, first: np.ndarray) -> float:
    r"""Unbiased estimate of the squared maximum mean discrepancy; about 0, of either sign, for equal distributions.

    .. math:: \frac{1}{m(m-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{n(n-1)} \sum_{i \ne j} k(y_i, y_j)
              - \frac{2}{mn} \sum_{i, j} k(x_i, y_j)

    Args:
        gram: Kernel of all rows, ``(N, N)``.
        first: Which rows are of the first domain, ``(N,)`` bool.

    Raises:
        ValueError: If a domain has fewer than two rows.

    Source: Gretton et al., JMLR 2012, lemma 6.
    """
    m, n = int(first.sum()), int((~first).sum())
    if min(m, n) < 2:
        raise ValueError(f'MMD needs at least two images of each domain, got {m} and {n}.')
    same, other, cross = gram[np.ix_(first, first)], gram[np.ix_(~first, ~first)], gram[np.ix_(first, ~first)]
    within = (same.sum() - np.trace(same)) / (m * (m - 1)) + (other.sum() - np.trace(other)) / (n * (n - 1))
    return float(within - 2 * cross.mean())


def mmd_test(x: np.ndarray, y: np.ndarray, permutations: int = 500, seed: int = 0) -> tuple[float, float]:
    """MMD^2 of two sets of features, and the share of random relabellings that give as much.

    Args:
        x: ``(m, D)``.
        y: ``(n, D)``.
        permutations: Number of relabellings.
        seed: Of the relabellings.

    Returns:
        MMD^2 and p, at least 1 / (permutations + 1).
    """
    gram = kernel(np.concatenate([x, y]))
    first = np.arange(len(gram)) < len(x)
    value = mmd_squared(gram, first)
    rng = np.random.default_rng(seed)
    more = sum(mmd_squared(gram, rng.permutation(first)) >= value for _ in range(permutations))
    return value, (more + 1) / (permutations + 1)


def classifier_accuracy(
    features: np.ndarray, domains: Sequence[str], groups: Sequence[str] | None = None, seed: int = 0
) -> tuple[float, str]:
    """Balanced accuracy of a linear classifier that tells domains apart, on images that it was not trained on.

    Logistic regression on standardised features, five folds. Frames of one recording are nearly the same image, so a
    recording is never on both sides of a fold where the domains have enough recordings.

    Args:
        features: ``(N, D)``.
        domains: Domain of each row; at least two.
        groups: Recording (folder) of each row.
        seed: Of the folds.

    Returns:
        Accuracy in ``[0, 1]`` (chance is 1 / number of domains), and how folds were made: ``'recordings'`` or ``'images'``.

    Raises:
        ValueError: If there is one domain only, or one with fewer than five images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    domains = np.asarray(domains)
    names, counts = np.unique(domains, return_counts=True)
    if len(names) < 2 or counts.min() < FOLDS:
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        raise ValueError(f'a domain classifier needs two domains of at least {FOLDS} images each, got {found}.')
    groups = None if groups is None else np.asarray(groups)
    by_recording = groups is not None and all(len(set(groups[domains == name])) >= FOLDS for name in names)
    folds = (StratifiedGroupKFold if by_recording else StratifiedKFold)(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight='balanced'))
    predicted = cross_val_predict(model, features, domains, groups=groups if by_recording else None, cv=folds)
    recall = [float((predicted[domains == name] == name).mean()) for name in names]
    return float(np.mean(recall)), 'recordings' if by_recording else 'images'


def proxy_distance(accuracy: float) -> float:
    """Proxy A-distance 2 (1 - 2 error) in ``[0, 2]`` of a two-domain classifier; 0 at chance and below.

    Source: Ben-David et al., "Analysis of Representations for Domain Adaptation", NIPS 2006.
    """
    return max(0.0, 2 * (2 * accuracy - 1))


def gap_table(
    features: np.ndarray, domains: Sequence[str], groups: Sequence[str], reference: str, permutations: int = 500, seed: int = 0
) -> dict:
    """All numbers of one network.

    Args:
        features: ``(N, D)``, one row per image.
        domains: Domain of each row.
        groups: Recording of each row.
        reference: The domain that others are compared with: the one that was trained on.
        permutations: Of the permutation test.
        seed: Of everything random.

    Returns:
        ``accuracy``, ``chance``, ``folds`` of the classifier of all domains; ``pairs``: domain -> ``mmd2``, ``p``, ``accuracy``,
        ``proxy_distance`` against the reference; ``null``: the same numbers for two random halves of the reference.

    Raises:
        ValueError: If the reference is no domain, or has fewer than ten images.
    """
    domains, groups = np.asarray(domains), np.asarray(groups)
    names = list(dict.fromkeys(domains.tolist()))
    if reference not in names:
        raise ValueError(f'--reference {reference!r} is none of the domains {names}.')
    own = features[domains == reference]
    if len(own) < 2 * FOLDS:
        raise ValueError(f'the reference {reference!r} has {len(own)} images; {2 * FOLDS} are needed for its null line.')
    accuracy, folds = classifier_accuracy(features, domains, groups, seed)
    pairs = {}
    for name in names:
        if name != reference:
            both = np.isin(domains, [reference, name])
            pairs[name] = _compare(features[both], domains[both], groups[both], permutations, seed)
    halves = np.random.default_rng(seed).permutation(len(own)) % 2
    null = _compare(own, halves, None, permutations, seed)
    return dict(accuracy=accuracy, chance=1 / len(names), folds=folds, reference=reference, pairs=pairs, null=null)


def _compare(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, permutations: int, seed: int) -> Mapping:
    """The numbers of two domains, labelled by two values."""
    first = labels == labels[0]
    value, p = mmd_test(features[first], features[~first], permutations, seed)
    accuracy, _ = classifier_accuracy(features, labels, groups, seed)
    return dict(mmd2=value, p=p, accuracy=accuracy, proxy_distance=proxy_distance(accuracy))

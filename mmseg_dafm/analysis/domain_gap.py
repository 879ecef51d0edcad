"""How far apart domains lie in feature space, in numbers: MMD with a permutation test, and a domain classifier.

A t-SNE picture alone misleads: its distances and the gaps between its clusters mean nothing. These numbers come with their
null line, what random halves of one domain give, and they count recordings, not frames, where the data allow: frames of one
recording are nearly one image, and a hundred of them say no more than one.
"""

from collections.abc import Sequence

import numpy as np

# widths of the kernels, in units of the median distance
SCALES = (0.5, 1.0, 2.0)
FOLDS = 5
# random halves of the null line
SPLITS = 10
RECORDINGS, IMAGES = 'recordings', 'images'


def squared_distances(x: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances ``(N, N)`` between rows of ``(N, D)``."""
    squares = (x**2).sum(1)
    return np.maximum(squares[:, None] + squares[None] - 2 * x @ x.T, 0)


def kernel(x: np.ndarray) -> np.ndarray:
    r"""Mean of Gaussian kernels ``(N, N)`` whose widths follow from the data.

    .. math:: k(a, b) = \frac{1}{3} \sum_{s \in \{1/2, 1, 2\}} \exp \left( - \frac{\|a - b\|^2}{2 s^2 m} \right)

    with m the median squared distance between different rows: features of any scale, of any network, get comparable kernels.

    Args:
        x: ``(N, D)``, all domains together, so that all comparisons of one network have one kernel.

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


def mmd_test(gram: np.ndarray, first: np.ndarray, permutations: int = 500, seed: int = 0) -> tuple[float, float]:
    """MMD^2 of two domains, and the share of random relabellings that give as much.

    Args:
        gram: Kernel ``(N, N)`` of independent rows: of recordings, not of their frames.
        first: Which rows are of the first domain, ``(N,)`` bool.
        permutations: Number of relabellings.
        seed: Of the relabellings.

    Returns:
        MMD^2 and p, at least 1 / (permutations + 1).
    """
    value = mmd_squared(gram, first)
    rng = np.random.default_rng(seed)
    more = sum(mmd_squared(gram, rng.permutation(first)) >= value for _ in range(permutations))
    return value, (more + 1) / (permutations + 1)


def classifier_accuracy(
    features: np.ndarray, domains: Sequence[str], groups: Sequence[str] | None = None, seed: int = 0
) -> float:
    """Balanced accuracy of a linear classifier that tells domains apart, on images that it was not trained on.

    Logistic regression on standardised features, five folds, domains weighted equally.

    Args:
        features: ``(N, D)``.
        domains: Domain of each row; at least two.
        groups: Recording of each row: none is on both sides of a fold. None: folds are of images.
        seed: Of the folds.

    Returns:
        In ``[0, 1]``; chance is 1 / number of domains.

    Raises:
        ValueError: If there is one domain only, or one with fewer than five images, or recordings if those are given.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    domains = np.asarray(domains)
    names = np.unique(domains)
    counts = {str(name): _count(domains == name, groups) for name in names}
    if len(names) < 2 or min(counts.values()) < FOLDS:
        what = IMAGES if groups is None else RECORDINGS
        raise ValueError(f'a domain classifier needs two domains of at least {FOLDS} {what} each, got {counts}.')
    folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight='balanced'))
    predicted = cross_val_predict(model, features, domains, groups=groups, cv=folds)
    return float(np.mean([(predicted[domains == name] == name).mean() for name in names]))


def proxy_distance(accuracy: float) -> float:
    """Proxy A-distance 2 (1 - 2 error) in ``[0, 2]`` of a two-domain classifier; 0 at chance and below.

    Source: Ben-David et al., "Analysis of Representations for Domain Adaptation", NIPS 2006.
    """
    return max(0.0, 2 * (2 * accuracy - 1))


def independent_rows(features: np.ndarray, domains: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows that may be taken for independent: the mean of each recording, or the images themselves.

    Args:
        features: ``(N, D)``, one row per image.
        domains: Domain of each row.
        groups: Recording of each row; None: every image stands for itself.

    Returns:
        ``(M, D)`` and the domain of each row.
    """
    if groups is None:
        return np.asarray(features, np.float64), domains
    pairs = list(dict.fromkeys(zip(domains.tolist(), groups.tolist(), strict=True)))
    rows = [features[(domains == domain) & (groups == group)].mean(0, dtype=np.float64) for domain, group in pairs]
    return np.stack(rows), np.array([domain for domain, _ in pairs])


def gap_table(
    features: np.ndarray, domains: Sequence[str], groups: Sequence[str], reference: str, permutations: int = 500, seed: int = 0
) -> dict:
    """All numbers of one network.

    Where every domain has five recordings or more, MMD compares the means of recordings and folds keep them together;
    otherwise images count one by one, and p assumes that they are independent. One rule, and one kernel, for all rows.

    Args:
        features: ``(N, D)``, one row per image.
        domains: Domain of each row.
        groups: Recording of each row.
        reference: The domain that others are compared with: the one that was trained on.
        permutations: Of the permutation test.
        seed: Of everything random.

    Returns:
        ``unit``: ``'recordings'`` or ``'images'``, and ``units``: their number by domain; ``accuracy`` and ``chance`` of the
        classifier of all domains; ``pairs``: domain -> ``mmd2``, ``p``, ``accuracy``, ``proxy_distance`` against the reference;
        ``null``: ``mmd2``, ``accuracy`` (means over random halves of the reference) and ``mmd2_range``, ``accuracy_range``.

    Raises:
        ValueError: If the reference is no domain, or has fewer than ten images.
    """
    domains, groups = np.asarray(domains), np.asarray(groups)
    names = list(dict.fromkeys(domains.tolist()))
    if reference not in names:
        raise ValueError(f'--reference {reference!r} is none of the domains {names}.')
    if (domains == reference).sum() < 2 * FOLDS:
        found = int((domains == reference).sum())
        raise ValueError(f'the reference {reference!r} has {found} images; {2 * FOLDS} are needed for its null line.')
    if not all(_count(domains == name, groups) >= FOLDS for name in names):
        groups = None
    rows, labels = independent_rows(features, domains, groups)
    gram = kernel(rows)
    pairs = {}
    for name in names:
        if name == reference:
            continue
        both, images = np.isin(labels, [reference, name]), np.isin(domains, [reference, name])
        value, p = mmd_test(gram[np.ix_(both, both)], labels[both] == reference, permutations, seed)
        own = None if groups is None else groups[images]
        accuracy = classifier_accuracy(features[images], domains[images], own, seed)
        pairs[name] = dict(mmd2=value, p=p, accuracy=accuracy, proxy_distance=proxy_distance(accuracy))
    return dict(
        unit=IMAGES if groups is None else RECORDINGS,
        units={name: int((labels == name).sum()) for name in names},
        reference=reference,
        accuracy=classifier_accuracy(features, domains, groups, seed),
        chance=1 / len(names),
        pairs=pairs,
        null=null_line(features, domains == reference, groups, gram[np.ix_(labels == reference, labels == reference)], seed),
    )


def null_line(features: np.ndarray, own: np.ndarray, groups: np.ndarray | None, gram: np.ndarray, seed: int = 0) -> dict:
    """What comes out where there is nothing: random halves of one domain, compared as if they were two.

    Args:
        features: ``(N, D)`` of all images.
        own: Which of them are of the domain, ``(N,)`` bool.
        groups: Recording of each image; None: images are split one by one.
        gram: Kernel of the domain's independent rows, in the order of their first image.
        seed: Of the halves.

    Returns:
        Means and ranges over the halves; the accuracy is nan where a half has fewer than five recordings.
    """
    rng, mmds, accuracies = np.random.default_rng(seed), [], []
    members = np.arange(own.sum()) if groups is None else np.unique(groups[own], return_inverse=True)[1]
    order = list(dict.fromkeys(members.tolist()))
    for _ in range(SPLITS):
        half = rng.permutation(len(order)) % 2 == 0
        mmds.append(mmd_squared(gram, half))
        if half.sum() >= FOLDS <= (~half).sum():
            of_unit = dict(zip(order, half.tolist(), strict=True))
            sides = np.array([of_unit[unit] for unit in members.tolist()])
            accuracies.append(classifier_accuracy(features[own], sides, None if groups is None else groups[own], seed))
    spread = lambda values: [float(min(values)), float(max(values))] if values else [float('nan')] * 2  # noqa: E731
    mean = float(np.mean(accuracies)) if accuracies else float('nan')
    return dict(mmd2=float(np.mean(mmds)), mmd2_range=spread(mmds), accuracy=mean, accuracy_range=spread(accuracies))


def _count(own: np.ndarray, groups: Sequence[str] | None) -> int:
    return int(own.sum()) if groups is None else len(set(np.asarray(groups)[own].tolist()))

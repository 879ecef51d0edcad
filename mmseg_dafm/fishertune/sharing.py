"""Which process takes which images."""

# (number of the group, numbers of its images)
Group = tuple[int, list[int]]


def plan(images: int, batch: int, blocks: int, rank: int = 0, world: int = 1) -> list[list[Group]]:
    """Split images into groups of ``batch``, groups into ``blocks``, and take this rank's share of each block.

    Groups and blocks do not depend on the number of processes; only who computes them does.

    Args:
        images: How many, numbered from 0.
        batch: Images that share a pass and a draw of the weights.
        blocks: Between blocks all processes join what they have.
        rank: Of this process.
        world: Number of processes.

    Raises:
        ValueError: If a number is not positive.
    """
    if min(images, batch, blocks, world) < 1:
        raise ValueError(f'images={images}, batch_size={batch} and blocks={blocks} must all be at least 1.')
    groups = [(g, list(range(g * batch, min((g + 1) * batch, images)))) for g in range(-(-images // batch))]
    blocks = min(blocks, len(groups))
    borders = [len(groups) * b // blocks for b in range(blocks + 1)]
    return [
        [group for group in groups[start:stop] if group[0] % world == rank]
        for start, stop in zip(borders, borders[1:], strict=False)
    ]

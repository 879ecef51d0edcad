"""Text descriptions k_i of the visual domains, from which Domino builds its domain embedding.

The paper asks for fixed descriptions of "different weather conditions and time of the day" and does not list them
(Domino, section 2.2). Deviation: the two presets below are our choice; a config may give its own dict.
"""

DOMAIN_PROMPTS: dict[str, dict[str, str]] = {
    # Cityscapes' own condition and the four of ACDC.
    'acdc5': {
        'clear': 'a photo of a driving scene on a clear day',
        'night': 'a photo of a driving scene at night',
        'snow': 'a photo of a snowy driving scene',
        'fog': 'a photo of a foggy driving scene',
        'rain': 'a photo of a rainy driving scene',
    },
    # Five kinds of weather and three times of day, for data without named conditions.
    'weather8': {
        'sunny': 'a photo of a driving scene in clear sunny weather',
        'cloudy': 'a photo of a driving scene in cloudy weather',
        'rainy': 'a photo of a driving scene in rainy weather',
        'foggy': 'a photo of a driving scene in foggy weather',
        'snowy': 'a photo of a driving scene in snowy weather',
        'daytime': 'a photo of a driving scene in the daytime',
        'dusk': 'a photo of a driving scene at dusk or dawn',
        'nighttime': 'a photo of a driving scene at nighttime',
    },
}


def domain_prompts(preset: str | dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the short names and the sentences of a set of domain descriptions.

    Args:
        preset: A key of `DOMAIN_PROMPTS`, or an own dict of short name -> sentence.

    Returns:
        The N names and the N sentences, in the order of the dict.

    Raises:
        ValueError: If the preset is unknown, has fewer than two entries or holds an empty sentence.
        TypeError: If it is neither a string nor a dict of strings.

    Source: Domino, section 2.2 (the set K = {k_1, ..., k_N}).
    """
    if isinstance(preset, str):
        if preset not in DOMAIN_PROMPTS:
            raise ValueError(
                f'domain prompt preset {preset!r} is unknown: use one of {sorted(DOMAIN_PROMPTS)} '
                'or give a dict of short name -> sentence'
            )
        preset = DOMAIN_PROMPTS[preset]
    if not isinstance(preset, dict) or not all(isinstance(text, str) for item in preset.items() for text in item):
        raise TypeError(f'domain prompts must be a preset name or a dict of short name -> sentence, got {preset!r}')
    if len(preset) < 2:
        raise ValueError(f'domain prompts need at least two entries, else alpha is always 1, got {dict(preset)!r}')
    if not all(sentence.strip() for sentence in preset.values()):
        raise ValueError(f'domain prompts hold an empty sentence: {dict(preset)!r}')
    return tuple(preset), tuple(preset.values())

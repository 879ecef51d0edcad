"""The part of an optimizer wrapper's state that mmengine's wrappers do not have."""


def split_state(state_dict: dict, key: str, name: str) -> tuple[dict, dict]:
    """Part a wrapper's own state from that of mmengine's base wrapper.

    Args:
        state_dict: Of a checkpoint; not changed.
        key: Under which the wrapper keeps its own state.
        name: Of the wrapper's class, for the message.

    Returns:
        The rest and the own state.

    Raises:
        ValueError: If the state was written by another wrapper.
    """
    rest = dict(state_dict)
    own = rest.pop(key, None)
    if own is None:
        raise ValueError(
            f"the checkpoint's optimizer state was not written by {name}: load its weights with load_from, without --resume."
        )
    return rest, own

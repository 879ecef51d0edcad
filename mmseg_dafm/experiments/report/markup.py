"""HTML elements as functions: text is escaped unless an element made it."""

from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element.

    Args:
        name: Such as ``p``.
        children: Elements, or anything else, whose text is escaped; None is left out.
        attributes: ``class_`` stands for ``class``, ``data_key`` for ``data-key``; True for an attribute without value, None and
            False for none.
    """
    start = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip('_').replace('_', '-')
        start += f' {key}' if value is True else f' {key}="{escape(str(value))}"'
    if name in ('img', 'meta'):
        return Markup(f'<{start}>')
    return Markup(f'<{start}>{join(*children)}</{name}>')


def join(*parts: object) -> Markup:
    """Elements and texts one after the other."""
    return Markup(''.join(part if isinstance(part, Markup) else escape(str(part)) for part in parts if part is not None))

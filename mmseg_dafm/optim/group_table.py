"""The parameter groups of an optimizer as a table for the log."""

from prettytable import PrettyTable


def group_table(groups: list[dict]) -> str:
    """The groups as a text table: name, tensors, parameters, learning rate, weight decay.

    Args:
        groups: ``dict(name, params, lr, weight_decay)`` each.

    Returns:
        One row per group, in the order given.
    """
    table = PrettyTable(['group', 'tensors', 'parameters', 'lr', 'weight decay'])
    table.align = 'r'
    table.align['group'] = 'l'
    for group in groups:
        count = sum(parameter.numel() for parameter in group['params'])
        table.add_row([group['name'], len(group['params']), f'{count:,}', f'{group["lr"]:.3g}', f'{group["weight_decay"]:.3g}'])
    return table.get_string()

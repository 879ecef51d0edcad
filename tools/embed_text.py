"""Write text embeddings of class names or domain prompts: python tools/embed_text.py --dataset CityscapesDataset --out FILE."""

import argparse
import sys
from pathlib import Path

# A clone works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table
from torch.nn.functional import normalize

from mmseg_dafm.core.files import writable_folder
from mmseg_dafm.models.domain.embedding_bank import DOMAIN_PROMPTS, domain_prompts
from mmseg_dafm.models.domain.embedding_file import EmbeddingBank, resolve_classes, save_embeddings
from mmseg_dafm.models.domain.text_bank import DEFAULT_MODELS, DEFAULT_TEMPLATE, encode_texts


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compute CLIP text embeddings once, for training and testing.')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--dataset', help='registered dataset whose class names to encode, such as CityscapesDataset')
    what.add_argument('--names', nargs='+', help='names to encode; "car; automobile" averages two synonyms')
    what.add_argument('--domains', choices=sorted(DOMAIN_PROMPTS), help='preset of domain descriptions')
    parser.add_argument('--templates', nargs='+', help=f'sentences with {{}} (default: "{DEFAULT_TEMPLATE}"; domains: "{{}}")')
    parser.add_argument('--provider', choices=sorted(DEFAULT_MODELS), default='transformers')
    parser.add_argument('--model', help=f'hub id, local folder or open_clip architecture (default: {DEFAULT_MODELS})')
    parser.add_argument('--pretrained', help='open_clip: tag or local file of the weights')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', required=True, help='the .safetensors file to write')
    return parser.parse_args()


def show(bank: EmbeddingBank, console: Console) -> None:
    """Print the norm of each row and the mean cosine between different rows, in each space that the bank has."""
    spaces = [key for key in ('pooled', 'projected') if getattr(bank, key) is not None]
    table = Table(title=f'{len(bank.names)} embeddings by {bank.model}')
    table.add_column('name')
    for key in spaces:
        table.add_column(f'{key} ({getattr(bank, key).shape[1]}) norm', justify='right')
    for index, name in enumerate(bank.names):
        table.add_row(name, *(f'{getattr(bank, key)[index].norm():.2f}' for key in spaces))
    console.print(table)
    count = len(bank.names)
    for key in spaces if count > 1 else ():
        rows = normalize(getattr(bank, key), dim=1)
        cosine = ((rows @ rows.T).sum() - count) / (count * (count - 1))
        console.print(f'mean pairwise cosine, {key}: {cosine:.3f}')


def main() -> None:
    args = parse_args()
    if Path(args.out).suffix != '.safetensors':
        raise SystemExit(f'error: --out must end in .safetensors, got {args.out}')
    phrases, templates = None, args.templates or [DEFAULT_TEMPLATE]
    try:
        writable_folder(Path(args.out).parent, '--out')
        if args.domains:
            names, phrases = domain_prompts(args.domains)
            templates = args.templates or ['{}']
        elif args.dataset:
            names = resolve_classes(args.dataset)
        else:
            names = tuple(args.names)
        bank = encode_texts(names, templates, args.provider, args.model, args.pretrained, phrases, args.device)
        save_embeddings(args.out, bank)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from None
    show(bank, Console())
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()

"""Text encoding with tiny CLIP models that the tests write themselves, in both providers' formats."""

import gzip
import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmseg_dafm.models.domain.embedding_bank import DOMAIN_PROMPTS, domain_prompts
from mmseg_dafm.models.domain.embedding_file import load_embeddings
from mmseg_dafm.models.domain.text_bank import clean_text, encode_texts

open_clip = pytest.importorskip('open_clip')
transformers = pytest.importorskip('transformers')

WIDTH, JOINT = 16, 12
NAMES = ('road', 'traffic light', 'vegetation')


def write_tokenizer(folder: Path) -> None:
    """Write open_clip's bundled vocabulary in the layout of transformers' CLIPTokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    renamed = {'<start_of_text>': '<|startoftext|>', '<end_of_text>': '<|endoftext|>'}
    vocabulary = {renamed.get(token, token): index for token, index in tokenizer.encoder.items()}
    (folder / 'vocab.json').write_text(json.dumps(vocabulary))
    source = Path(open_clip.__file__).parent / 'bpe_simple_vocab_16e6.txt.gz'
    merges = gzip.decompress(source.read_bytes()).decode().split('\n')[1 : 49152 - 256 - 2 + 1]
    (folder / 'merges.txt').write_text('#version: 0.2\n' + '\n'.join(merges) + '\n')
    (folder / 'tokenizer_config.json').write_text(json.dumps({'tokenizer_class': 'CLIPTokenizer'}))


def text_config(**changes):
    fields = {
        'hidden_size': WIDTH,
        'intermediate_size': 32,
        'num_hidden_layers': 2,
        'num_attention_heads': 2,
        'projection_dim': JOINT,
        'bos_token_id': 49406,
        'eos_token_id': 49407,
        'pad_token_id': 49407,
    }
    return transformers.CLIPTextConfig(**(fields | changes))


@pytest.fixture(scope='module')
def hf_folder(tmp_path_factory):
    """A whole tiny CLIP text model as transformers saves it."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp('clip')
    transformers.CLIPTextModelWithProjection(text_config()).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope='module')
def open_clip_file(tmp_path_factory):
    """Register a tiny open_clip architecture and write weights for it; return the weights' path."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp('open_clip')
    cfg = {
        'embed_dim': JOINT,
        'vision_cfg': {'image_size': 32, 'layers': 1, 'width': 64, 'patch_size': 16},
        'text_cfg': {'context_length': 77, 'vocab_size': 49408, 'width': WIDTH, 'heads': 2, 'layers': 2},
    }
    (folder / 'tiny-dafm.json').write_text(json.dumps(cfg))
    open_clip.add_model_config(folder)
    save_file(open_clip.create_model('tiny-dafm').state_dict(), folder / 'weights.safetensors')
    return folder / 'weights.safetensors'


def independent_pooled(model: torch.nn.Module, ids: list[list[int]]) -> torch.Tensor:
    """Run each sentence alone and unpadded: its last token is the end of text, no search needed."""
    with torch.no_grad():
        return torch.stack([model(input_ids=torch.tensor([row])).last_hidden_state[0, -1] for row in ids])


def bpe_ids(text: str) -> list[int]:
    return [49406, *open_clip.tokenizer.SimpleTokenizer().encode(text), 49407]


def test_transformers_vectors_equal_unpadded_single_passes(hf_folder):
    bank = encode_texts(NAMES, model=str(hf_folder), batch_size=2)
    model = transformers.CLIPTextModelWithProjection.from_pretrained(hf_folder).eval()
    pooled = independent_pooled(model, [bpe_ids(f'a photo of a {name}') for name in NAMES])
    torch.testing.assert_close(bank.pooled, pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bank.projected, pooled @ model.text_projection.weight.T.detach(), rtol=1e-5, atol=1e-5)
    assert (bank.names, bank.templates) == (NAMES, ('a photo of a {}',))
    assert bank.model == f'transformers:{hf_folder}'


@pytest.mark.parametrize('eos', [49407, 2], ids=['named', 'legacy'])
def test_pooled_is_the_models_own_pooler_output(tmp_path, eos):
    """`eos_token_id=2` is what the published CLIP configs say; transformers then looks for the largest id."""
    torch.manual_seed(3)
    transformers.CLIPTextModelWithProjection(text_config(eos_token_id=eos)).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    bank = encode_texts(NAMES, model=str(tmp_path))
    tokens = transformers.CLIPTokenizer.from_pretrained(tmp_path)(
        [f'a photo of a {name}' for name in NAMES], padding='max_length', max_length=77, return_tensors='pt'
    )
    with torch.no_grad():
        model = transformers.CLIPTextModel.from_pretrained(tmp_path).eval()
        reference = model(input_ids=tokens.input_ids).pooler_output
    torch.testing.assert_close(bank.pooled, reference, rtol=1e-5, atol=1e-5)


def test_templates_are_averaged_without_normalisation(hf_folder):
    templates = ('a photo of a {}', 'a bad photo of the {}', '{}')
    together = encode_texts(NAMES, templates, model=str(hf_folder))
    alone = [encode_texts(NAMES, (template,), model=str(hf_folder)) for template in templates]
    for key in ('pooled', 'projected'):
        mean = sum(getattr(bank, key).double() for bank in alone) / 3
        torch.testing.assert_close(getattr(together, key).double(), mean, rtol=1e-5, atol=1e-5)


def test_phrases_replace_names(hf_folder):
    names, sentences = domain_prompts('acdc5')
    bank = encode_texts(names, ('{}',), model=str(hf_folder), phrases=sentences)
    plain = encode_texts(sentences, ('{}',), model=str(hf_folder))
    assert bank.names == names
    assert torch.equal(bank.pooled, plain.pooled)
    with pytest.raises(ValueError, match='got 1 phrases for 5 names'):
        encode_texts(names, model=str(hf_folder), phrases=['x'])


def test_open_clip_pooled_times_projection_is_projected(open_clip_file):
    bank = encode_texts(NAMES, provider='open_clip', model='tiny-dafm', pretrained=str(open_clip_file), batch_size=2)
    model = open_clip.create_model('tiny-dafm', pretrained=str(open_clip_file)).eval()
    with torch.no_grad():
        tokens = open_clip.get_tokenizer('tiny-dafm')([f'a photo of a {name}' for name in NAMES])
        torch.testing.assert_close(bank.projected, model.encode_text(tokens), rtol=1e-5, atol=1e-5)
        hidden = model.token_embedding(tokens) + model.positional_embedding
        hidden = model.ln_final(model.transformer(hidden, attn_mask=model.attn_mask))
        ends = [len(bpe_ids(f'a photo of a {name}')) - 1 for name in NAMES]
        pooled = torch.stack([hidden[row, end] for row, end in enumerate(ends)])
    torch.testing.assert_close(bank.pooled, pooled, rtol=1e-5, atol=1e-5)
    assert bank.pooled.shape == (3, WIDTH)
    assert bank.projected.shape == (3, JOINT)
    projection = load_file(open_clip_file)['text_projection']
    torch.testing.assert_close(bank.pooled @ projection, bank.projected, rtol=1e-5, atol=1e-5)


def test_open_clip_does_not_unpickle(tmp_path, open_clip_file):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / 'owned'), 'w'))

    torch.save(Payload(), tmp_path / 'evil.pt')
    with pytest.raises(ValueError, match='cannot be loaded with open_clip'):
        encode_texts(NAMES, provider='open_clip', model='tiny-dafm', pretrained=str(tmp_path / 'evil.pt'))
    assert not (tmp_path / 'owned').exists()


def test_stable_diffusion_folder_gives_pooled_only(tmp_path, hf_folder):
    transformers.CLIPTextModel(text_config()).save_pretrained(tmp_path / 'text_encoder')
    write_tokenizer(tmp_path / 'tokenizer')
    bank = encode_texts(NAMES, model=str(tmp_path))
    model = transformers.CLIPTextModel.from_pretrained(tmp_path / 'text_encoder').eval()
    pooled = independent_pooled(model, [bpe_ids(f'a photo of a {name}') for name in NAMES])
    torch.testing.assert_close(bank.pooled, pooled, rtol=1e-5, atol=1e-5)
    assert bank.projected is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'templates': ['no place']}, 'each template must hold {} exactly once'),
        ({'provider': 'magic'}, "text provider 'magic' is unknown"),
        ({'model': 'no-one/no-clip'}, "CLIP text model 'no-one/no-clip' cannot be loaded with transformers"),
        ({'pretrained': 'openai'}, 'pretrained is for open_clip'),
        ({'provider': 'open_clip'}, "open_clip model 'ViT-L-14' needs pretrained"),
        ({'provider': 'open_clip', 'model': 'none', 'pretrained': 'x'}, "CLIP model 'none' with pretrained='x' cannot"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        encode_texts(NAMES, **arguments)


def test_weights_of_another_model_are_refused(tmp_path, hf_folder):
    """transformers alone would initialise what is missing at random."""
    write_tokenizer(tmp_path)
    (tmp_path / 'config.json').write_text((hf_folder / 'config.json').read_text())
    weights = load_file(hf_folder / 'model.safetensors')
    kept = {key: value for key, value in weights.items() if 'layers.1' not in key}
    save_file(kept, tmp_path / 'model.safetensors', {'format': 'pt'})
    with pytest.raises(ValueError, match=r'holds no weights for .*layers\.1.*: it is not a CLIP text model'):
        encode_texts(NAMES, model=str(tmp_path))


@pytest.mark.parametrize('provider', ['transformers', 'open_clip'])
def test_too_long_sentences_are_refused(hf_folder, open_clip_file, provider):
    model = str(hf_folder) if provider == 'transformers' else 'tiny-dafm'
    pretrained = None if provider == 'transformers' else str(open_clip_file)
    assert encode_texts(['road ' * 75], ('{}',), provider, model, pretrained).pooled.shape == (1, WIDTH)
    with pytest.raises(ValueError, match='has 78 tokens, more than the 77'):
        encode_texts(['road ' * 76], ('{}',), provider, model, pretrained)


def test_domain_prompt_presets():
    assert set(DOMAIN_PROMPTS) == {'acdc5', 'weather8'}
    for preset, count in (('acdc5', 5), ('weather8', 8)):
        names, sentences = domain_prompts(preset)
        assert len(names) == len(set(sentences)) == count
    assert domain_prompts({'a': 'A', 'b': 'B'}) == (('a', 'b'), ('A', 'B'))


@pytest.mark.parametrize(
    ('preset', 'error', 'message'),
    [
        ('acdc', ValueError, r"preset 'acdc' is unknown: use one of \['acdc5', 'weather8'\]"),
        (['a'], TypeError, 'must be a preset name or a dict'),
        ({'a': 'A'}, ValueError, 'at least two entries'),
        ({'a': 'A', 'b': ' '}, ValueError, 'empty sentence'),
    ],
)
def test_bad_domain_prompts(preset, error, message):
    with pytest.raises(error, match=message):
        domain_prompts(preset)


def run_tool(root, monkeypatch, capsys, *arguments):
    import runpy

    monkeypatch.setattr(sys, 'argv', ['embed_text.py', *map(str, arguments)])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setenv('COLUMNS', '160')
    runpy.run_path(str(root / 'tools' / 'embed_text.py'), run_name='__main__')
    return capsys.readouterr().out


def test_tool_writes_classes_of_a_dataset(root, monkeypatch, capsys, tmp_path, hf_folder):
    out = tmp_path / 'cityscapes.safetensors'
    printed = run_tool(root, monkeypatch, capsys, '--dataset', 'CityscapesDataset', '--model', hf_folder, '--out', out)
    bank = load_embeddings(out)
    assert len(bank.names) == 19
    assert bank.names[:2] == ('road', 'sidewalk')
    rows = bank.pooled.double() / bank.pooled.double().norm(dim=1, keepdim=True)
    pairs = [float(rows[i] @ rows[j]) for i in range(19) for j in range(19) if i != j]
    assert f'mean pairwise cosine, pooled: {sum(pairs) / len(pairs):.3f}' in printed
    assert f'{bank.pooled[0].norm():.2f}' in printed


def test_tool_writes_domains_as_sentences(root, monkeypatch, capsys, tmp_path, hf_folder):
    out = tmp_path / 'domains.safetensors'
    run_tool(root, monkeypatch, capsys, '--domains', 'acdc5', '--model', hf_folder, '--out', out)
    names, sentences = domain_prompts('acdc5')
    bank = load_embeddings(out)
    assert (bank.names, bank.templates) == (names, ('{}',))
    assert torch.equal(bank.pooled, encode_texts(sentences, ('{}',), model=str(hf_folder)).pooled)


def test_tool_says_one_sentence_on_bad_input(root, monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit, match="error: classes='NoSet' is neither a dataset registered"):
        run_tool(root, monkeypatch, capsys, '--dataset', 'NoSet', '--out', tmp_path / 'a.safetensors')
    with pytest.raises(SystemExit, match=r'error: --out must end in .safetensors'):
        run_tool(root, monkeypatch, capsys, '--names', 'a', '--out', tmp_path / 'a.pth')
    assert list(tmp_path.iterdir()) == []


def test_a_whole_clip_is_read_without_a_word_about_its_other_half(tmp_path, monkeypatch):
    """transformers would list the image tower's keys as UNEXPECTED."""
    vision = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1, 'num_attention_heads': 2, 'image_size': 32}
    cfg = transformers.CLIPConfig(text_config=text_config().to_dict(), vision_config=vision, projection_dim=JOINT)
    transformers.CLIPModel(cfg).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    said, logger = [], transformers.utils.logging.get_logger('transformers')
    monkeypatch.setattr(logger, 'handlers', [type('Keep', (logging.Handler,), {'emit': lambda _, record: said.append(record)})()])
    monkeypatch.setattr(logger, 'level', logging.WARNING)
    logger.manager._clear_cache()
    transformers.CLIPTextModelWithProjection.from_pretrained(tmp_path)
    assert said, 'transformers by itself reports'
    said.clear()
    assert encode_texts(['fog'], model=str(tmp_path)).pooled.shape == (1, WIDTH)
    assert said == []


DIRTY = ('driver’s seat', 'ｃａｒ', 'ﬁeld  of\tgrass', 'road &amp;amp; pavement', 'cafÃ©')
CLEAN = ("driver's seat", 'car', 'field of grass', 'road & pavement', 'café')


def test_both_providers_get_the_ids_of_clips_own_tokenizer(hf_folder, open_clip_file):
    """open_clip's tokenizer cleans by itself and serves as the reference; transformers' does not."""
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    for dirty, clean in zip(DIRTY, CLEAN, strict=True):
        assert clean_text(dirty) == clean
        assert tokenizer(dirty).tolist() == tokenizer(clean_text(dirty)).tolist() == tokenizer(clean).tolist()
    for arguments in (dict(model=str(hf_folder)), dict(provider='open_clip', model='tiny-dafm', pretrained=str(open_clip_file))):
        dirty, clean = encode_texts(DIRTY, **arguments), encode_texts(CLEAN, **arguments)
        assert dirty.names == DIRTY, 'rows keep the names as they were given'
        assert torch.equal(dirty.pooled, clean.pooled)


def test_synonyms_are_averaged(hf_folder):
    templates = ('a photo of a {}', '{}')
    bank = encode_texts(['car; automobile', 'road', 'R&amp;B ;'], templates, model=str(hf_folder))
    alone = encode_texts(['car', 'automobile', 'road', 'R&B'], templates, model=str(hf_folder))
    assert bank.names == ('car; automobile', 'road', 'R&amp;B ;')
    for key in ('pooled', 'projected'):
        rows = getattr(alone, key)
        torch.testing.assert_close(getattr(bank, key), torch.stack([rows[:2].mean(0), rows[2], rows[3]]))


@pytest.mark.parametrize(('names', 'message'), [([], 'no names to embed'), (['road', ' ; '], r"the name ' ; ' is empty")])
def test_empty_names_are_refused(hf_folder, names, message):
    with pytest.raises(ValueError, match=message):
        encode_texts(names, model=str(hf_folder))

"""Search by meaning: vectors as transformers would have them, kept in step with the index, joined with words."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from wikigpt.corpus.document import Document
from wikigpt.errors import UserError
from wikigpt.knowledge import Index, KnowledgeSettings, build_index
from wikigpt.knowledge.dense import Embedder
from wikigpt.knowledge.index import Hit, _joined

transformers = pytest.importorskip("transformers")

WORDS = "the a river mountain capital of is in flows city large old cat dog sleeps France Paris Seine Alps"


@pytest.fixture(scope="module", params=["mean", "cls"])
def folder(request, tmp_path_factory):
    """A tiny random BERT, in the layout of sentence-transformers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(f"embeddings-{request.param}")
    config = transformers.BertConfig(
        vocab_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.3,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS.split()]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.x.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_mean_tokens": request.param == "mean", "pooling_mode_cls_token": request.param == "cls"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    return folder


def by_transformers(folder, texts):
    model = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(16)
    mean = json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"]
    found = []
    for text in texts:
        with torch.no_grad():
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        found.append(torch.nn.functional.normalize(states.mean(0) if mean else states[0], dim=-1).numpy())
    return np.stack(found)


def document(number: int, title: str, text: str) -> Document:
    return Document(str(number), "1", f"https://x/{title}", title, text, "en")


def corpus_of(documents, path):
    from wikigpt.corpus import build_corpus

    source = path.with_suffix(".jsonl")
    rows = [{k: v for k, v in dataclasses.asdict(d).items() if k in ("id", "title", "text", "url")} for d in documents]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    shutil.rmtree(path, ignore_errors=True)
    build_corpus([source], path, report=False, min_chars=1, lang="en")
    return path


def test_vectors_are_those_of_transformers(folder):
    texts = [
        "the river flows",
        "Paris is the capital of France",
        "cat",
        "the large old dog sleeps in the city " * 9,
        "",
    ]
    ours = Embedder(folder).vectors(texts)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)
    # bf16 where the processor has it
    assert (ours * by_transformers(folder, texts)).sum(1) == pytest.approx(1, abs=2e-3)
    assert not np.allclose(ours[0], ours[1], atol=1e-3)


def test_an_index_keeps_its_vectors_in_step(folder, tmp_path):
    old = [document(1, "Seine", "The river flows in France. " * 30), document(2, "Alps", "A large old mountain.")]
    new = [
        old[1],
        document(3, "Paris", "Paris is the capital of France, a large city."),
        document(4, "Cat", "It sleeps."),
    ]
    settings = KnowledgeSettings(embeddings=str(folder))
    build_index(corpus_of(old, tmp_path / "old"), tmp_path / "knowledge", settings=settings)
    build_index(corpus_of(new, tmp_path / "new"), tmp_path / "knowledge")  # the model stays in use
    build_index(tmp_path / "new", tmp_path / "anew", settings=settings)
    index, anew = Index(tmp_path / "knowledge"), Index(tmp_path / "anew")
    assert index.problems() == [] == anew.problems()
    for question in ("river flows", "capital of France", "the dog", "mountain"):
        assert [hit.title for hit in index.search(question)] == [hit.title for hit in anew.search(question)]
    assert len(index.search("dog")) == 3  # nothing holds the word, yet all have some meaning
    manifest = build_index(tmp_path / "new", tmp_path / "knowledge", update=False)
    assert manifest["settings"]["embeddings"] == "" and Index(tmp_path / "knowledge").search("dog") == []


def test_what_is_near_in_meaning_moves_up():
    hits = [Hit("a", "", passage=n, score=9.0 - n) for n in range(5)]
    assert [hit.passage for hit in _joined(hits, [4, 1])] == [1, 4, 0, 2, 3]
    assert [hit.passage for hit in _joined(hits, [])] == [0, 1, 2, 3, 4]


def test_a_model_that_cannot_be_used_is_named(folder, tmp_path):
    corpus = corpus_of([document(1, "Seine", "The river flows.")], tmp_path / "corpus")

    def build(path):
        build_index(corpus, tmp_path / "knowledge", settings=KnowledgeSettings(embeddings=str(path)))

    with pytest.raises(UserError, match=r"holds no modules\.json"):
        build(tmp_path)
    none = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}
    for name, change, words in (
        ("config.json", {"model_type": "qwen3"}, "hidden_act"),
        ("1_Pooling/config.json", none, "not supported"),
        ("modules.json", [{"type": "x.Pooling", "path": "../1_Pooling"}], r"names '\.\./1_Pooling'"),
        ("modules.json", [], "no pooling"),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        content = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({**content, **change} if isinstance(change, dict) else change))
        with pytest.raises(UserError, match=words):
            build(copy)
    assert not (tmp_path / "knowledge").exists()
    copy = tmp_path / "moved"
    shutil.copytree(folder, copy)
    build(copy)
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match="another model"):
        Index(tmp_path / "knowledge").search("river")
    shutil.rmtree(copy)
    with pytest.raises(UserError, match="gone"):
        Index(tmp_path / "knowledge")

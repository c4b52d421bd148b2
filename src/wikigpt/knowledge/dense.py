"""Search by meaning, beside that by words: passages and questions as vectors of an embedding model of the user's.

The model is a folder as sentence-transformers writes it, of the BERT family: all-MiniLM, BGE, GTE, E5 … The vector of a
text is the mean of its tokens' last states, or the first token's, as the folder says, of length 1.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from wikigpt.artifacts import fingerprint, read_json, sha256_file
from wikigpt.errors import UserError
from wikigpt.knowledge.build import Progress
from wikigpt.model.hub import load_model, weight_files
from wikigpt.tokens import load_tokenizer

MODULES = "modules.json"
BATCH_TOKENS = 8192  # padding included
AT_ONCE = 2048  # passages read from the index; sorted by length among themselves
LONGEST = 256  # tokens of a text, where the folder does not say
_SCHEMA = "CREATE TABLE IF NOT EXISTS vectors (passage INTEGER PRIMARY KEY, vector BLOB)"


class Embedder:
    """Turns texts into vectors.

    Raises:
        UserError: the folder is no embedding model of a kind that can be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        pooling = _pooling(folder)
        self._mean = not pooling.get("pooling_mode_cls_token", False)
        if not (pooling.get("pooling_mode_mean_tokens", True) or not self._mean):
            raise UserError(f"{folder} pools its tokens in a way that is not supported; mean and CLS are.")
        model = load_model(folder, headless=True)
        if model.config.family != "bert":
            raise UserError(f"{folder} is a {model.config.family} model; embeddings are read from BERT models.")
        self._encoder = model.model
        self.width = model.config.d_model
        self._tokenizer = _tokenizer(folder, model.config.context_length)
        # bf16 where the processor multiplies it: three times as fast, and cosines are off by 0.001.
        self._autocast = torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported())

    @cached_property
    def fingerprint(self) -> str:
        """What vectors of other models differ in."""
        return fingerprint(*(sha256_file(path) for path in weight_files(self.folder)), self._mean)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, fp32 `[texts, width]`; what is longer than the model reads is cut."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        found = np.zeros((len(texts), self.width), dtype=np.float32)
        for batch in _batches([len(ids) for ids in encoded]):
            longest = max(len(encoded[i]) for i in batch)
            ids = torch.tensor([encoded[i] + [0] * (longest - len(encoded[i])) for i in batch])
            lengths = torch.tensor([len(encoded[i]) for i in batch])
            real = torch.arange(longest) < lengths[:, None]
            with self._autocast:
                states = self._encoder(ids, document_ids=(~real).long()).float()
            pooled = (states * real[..., None]).sum(1) / lengths[:, None] if self._mean else states[:, 0]
            found[batch] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return found


def _pooling(folder: Path) -> dict[str, object]:
    if not (folder / MODULES).is_file():
        raise UserError(f"{folder} is no embedding model: it holds no {MODULES}, which sentence-transformers writes.")
    for module in read_json(folder / MODULES):
        if str(module.get("type", "")).endswith(".Pooling"):
            name = str(module.get("path", ""))
            if Path(name).name != name:
                raise UserError(f"{folder / MODULES} names {name!r}, which is no folder of this model.")
            return read_json(folder / name / "config.json")
    raise UserError(f"{folder / MODULES} names no pooling, so there is no vector of a text.")


def _tokenizer(folder: Path, context_length: int) -> Tokenizer:
    tokenizer = load_tokenizer(folder)
    settings = folder / "sentence_bert_config.json"
    longest = read_json(settings).get("max_seq_length") if settings.is_file() else None
    tokenizer.enable_truncation(min(longest or LONGEST, context_length))
    tokenizer.no_padding()
    return tokenizer


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Numbers of texts of similar length, so many that they fill `BATCH_TOKENS`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[i] * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


class Vectors:
    """The vectors of an index, read into memory: what is near a question."""

    def __init__(self, rows: Sequence[tuple[int, bytes]], embedder: Embedder) -> None:
        self._embedder = embedder
        self._passages = np.fromiter((passage for passage, _ in rows), dtype=np.int64, count=len(rows))
        self._matrix = torch.from_numpy(
            np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f2").reshape(len(rows), -1).astype(np.float32)
        )

    def nearest(self, question: str, k: int) -> list[int]:
        """Numbers of the `k` passages nearest to a question, nearest first."""
        if not len(self._passages):
            return []
        cosines = self._matrix @ torch.from_numpy(self._embedder.vectors([question])[0])
        nearest = cosines.topk(min(k, len(self._passages))).indices
        return self._passages[nearest.numpy()].tolist()


def add_vectors(file: Path, embedder: Embedder, progress: Progress | None = None) -> int:
    """Give each passage of the index at `file` that has none its vector (fp16); returns how many there are.

    Vectors of another model are thrown away.
    """
    database = sqlite3.connect(file)
    try:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute(_SCHEMA)
        known = dict(database.execute("SELECT key, value FROM meta WHERE key = 'embedder'"))
        if known.get("embedder") != embedder.fingerprint:
            database.execute("DELETE FROM vectors")
        facts = [("embedder", embedder.fingerprint), ("embeddings", str(embedder.folder))]
        database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts)
        database.execute("DELETE FROM vectors WHERE passage NOT IN (SELECT passage FROM passages)")
        ((total,),) = database.execute("SELECT count(*) FROM passages")
        ((done,),) = database.execute("SELECT count(*) FROM vectors")
        missing = database.execute(
            "SELECT passage, title, section, text FROM passages JOIN articles USING (article) "
            "WHERE passage NOT IN (SELECT passage FROM vectors)"
        )
        while rows := missing.fetchmany(AT_ONCE):
            texts = ["\n".join(filter(None, row[1:])) for row in rows]
            vectors = embedder.vectors(texts).astype("<f2")
            database.executemany(
                "INSERT INTO vectors VALUES (?, ?)",
                ((row[0], vector.tobytes()) for row, vector in zip(rows, vectors, strict=True)),
            )
            done += len(rows)
            if progress:
                progress(done, total, "vectors")
        database.commit()
    finally:
        database.close()
    return int(total)

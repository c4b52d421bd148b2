"""Distillation: a student learns what a teacher thinks of every next token (Hinton et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wikigpt.model import Transformer
from wikigpt.model.transformer import block_causal_attention
from wikigpt.train.batches import IGNORE, Batch
from wikigpt.train.chunks import back_through_head, chunk_rows, piece_rows
from wikigpt.train.objectives import Chat

Divergence = Literal["forward", "reverse"]
RIDGE = 1e-4  # of the mean square of a hidden state, lest a direction that is hardly used decides


def chunked_distillation(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    targets: Tensor,
    *,
    divergence: Divergence,
    temperature: float,
    mix: float,
    prompts: float = 0.0,
) -> Tensor:
    """`(1 - mix) * cross-entropy + mix * T^2 * divergence` in nats, summed over rows, an fp32 scalar.

    "forward" is KL(teacher || student) of both distributions at temperature T, "reverse" KL(student || teacher); T^2
    keeps the size of its gradients beside the cross-entropy's (Hinton et al. 2015). Gradients go to `hidden` and
    `head` and are computed along with the loss, so that of both models' logits only a chunk of rows ever exists.

    Args:
        hidden: the student's states `[rows, width]`.
        head: `[vocab, width]`.
        teacher_hidden: `[rows, teacher width]`.
        teacher_head: `[at least vocab, teacher width]`; tokens that the student lacks are left out of the softmax.
        targets: int64 `[rows]`. Rows where it is `IGNORE` have no cross-entropy, and their divergence counts `prompts`
            times.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, teacher_hidden = hidden.to(dtype), teacher_hidden.to(dtype)
    teacher_head = teacher_head[: head.shape[0]].to(teacher_hidden.dtype)
    loss: Tensor = _ChunkedDistillation.apply(
        hidden, head, teacher_hidden, teacher_head, targets, divergence == "reverse", temperature, mix, prompts
    )
    return loss


class _ChunkedDistillation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        teacher_hidden: Tensor,
        teacher_head: Tensor,
        targets: Tensor,
        reverse: bool,
        temperature: float,
        mix: float,
        prompts: float,
    ) -> Tensor:
        rows, some = chunk_rows(head), piece_rows(head)
        loss = hidden.new_zeros((), dtype=torch.float32)
        weight = head.detach().to(hidden.dtype)
        d_hidden, d_head = torch.empty_like(hidden), torch.zeros_like(head) if ctx.needs_input_grad[1] else None
        logits = [hidden.new_empty(min(rows, hidden.shape[0]), head.shape[0]) for _ in range(2 if mix else 1)]
        for start in range(0, hidden.shape[0], rows):
            where = slice(start, start + rows)
            part, answers = hidden[where].detach(), targets[where]
            student, *others = (buffer[: len(part)] for buffer in logits)
            torch.mm(part, weight.T, out=student)
            for teacher in others:
                torch.mm(teacher_hidden[where], teacher_head.T, out=teacher)
            for piece in zip(*(x.split(some) for x in (answers, student, *others)), strict=True):
                loss += _errors_(*piece, reverse=reverse, temperature=temperature, mix=mix, prompts=prompts)
            back_through_head(student, part, weight, d_hidden[where], d_head)
        ctx.save_for_backward(d_hidden, d_head)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_head = ctx.saved_tensors  # scaled in place: a second head would be the step's largest tensor
        return d_hidden.mul_(grad), d_head if d_head is None else d_head.mul_(grad), *(None,) * 7


def _errors_(
    answers: Tensor,
    student: Tensor,
    teacher: Tensor | None = None,
    *,
    reverse: bool,
    temperature: float,
    mix: float,
    prompts: float,
) -> Tensor:
    """The loss of a few rows, an fp32 scalar; the student's logits become the loss's gradient in place."""
    known = (answers != IGNORE)[:, None].float()
    answers = answers.clamp_min(0)[:, None]
    log_p = student.log_softmax(-1, torch.float32)
    loss = (mix - 1) * (log_p.gather(1, answers) * known).sum()
    # The gradient of a sum over rows of cross-entropy: p - 1 at the answer, p elsewhere.
    errors = log_p.exp().mul_((1 - mix) * known)
    errors.scatter_add_(1, answers, (mix - 1) * known)
    if teacher is not None:
        counts = mix * torch.where(known > 0, 1.0, prompts)
        if temperature != 1:
            log_p = (student.float() / temperature).log_softmax(-1)
            teacher = teacher.float() / temperature
        log_q = teacher.log_softmax(-1, torch.float32)
        if reverse:
            p = log_p.exp()
            difference = log_p.sub_(log_q)
            kl = torch.linalg.vecdot(p, difference)
            difference.sub_(kl[:, None]).mul_(p)
        else:
            q = log_q.exp()
            kl = torch.linalg.vecdot(q, log_q.sub_(log_p))
            difference = log_p.exp_().sub_(q)
        errors.addcmul_(difference, counts, value=temperature)
        loss += temperature**2 * (counts[:, 0] * kl).sum()
    student.copy_(errors)
    return loss


@dataclass(frozen=True)
class HiddenStates:
    """Which of the teacher's blocks the student's are to resemble (Romero et al. 2015), and how that is measured.

    The student's states `x` are mapped by a matrix that `fitted` solved for and that then stays: as a trained one it
    would have to be part of every checkpoint, though none of the model.
    """

    layers: tuple[tuple[int, int], ...]  # (block of the student, block of the teacher), counted from 0
    projections: tuple[Tensor, ...]  # fp32 [student width, teacher width] each
    scales: tuple[float, ...]  # mean squares of the teacher's states: a loss of 1 is as bad as knowing nothing
    weight: float = 1.0

    @classmethod
    def fitted(
        cls,
        student: Transformer,
        teacher: Transformer,
        batch: Batch,
        layers: Sequence[tuple[int, int]] | None = None,
        weight: float = 1.0,
    ) -> "HiddenStates":
        """The linear maps that take the student's states of a batch closest to the teacher's, by ridge regression.

        Args:
            layers: default: each of the student's blocks with the one as deep in the teacher.
        """
        depth = len(student.model.layers), len(teacher.model.layers)
        pairs = tuple(layers or [(i, (i + 1) * depth[1] // depth[0] - 1) for i in range(depth[0])])
        where = batch.document_ids >= 0
        states: tuple[list[Tensor], list[Tensor]] = [], []
        with torch.no_grad():
            for model, kept in zip((student, teacher), states, strict=True):
                model.model(batch.input_ids, batch.document_ids, watch=kept.append)
        projections, scales = [], []
        for i, j in pairs:
            x, y = states[0][i][where].double(), states[1][j][where].double()
            square = x.T @ x
            square.diagonal().add_(RIDGE * square.diagonal().mean().clamp_min(1e-12))
            projections.append(torch.linalg.solve(square, x.T @ y).float())
            scales.append(float(y.square().mean().clamp_min(1e-12)))
        return cls(pairs, tuple(projections), tuple(scales), weight)

    def compare(self, teacher: list[Tensor], where: Tensor) -> "Comparison":
        """What is to be called with the student's states, block by block; see `Comparison`."""
        return Comparison(self, dict(enumerate(teacher)), where)


class Comparison:
    """Weighted mean squared error, relative to the teacher's mean square, summed over the rows in `where`: `loss`.

    It is called with what each of the student's blocks puts out, `[batch, tokens, width]`, as soon as it does. So its
    gradients flow back just before those of the block, and a state of the teacher is forgotten after its last use: all
    together, at the end, they would stand in memory beside everything else (a sixth of a step's memory at 6x256).

    Args:
        teacher: the rows in `where` of what each block puts out, `[rows, width]`, by number; emptied on the way.
    """

    def __init__(self, hidden: HiddenStates, teacher: dict[int, Tensor], where: Tensor):
        self.hidden, self.teacher, self.where = hidden, teacher, where
        self.loss = torch.zeros((), device=where.device)
        self._block = 0

    def __call__(self, x: Tensor) -> None:
        hidden, kept = self.hidden, {j for i, j in self.hidden.layers if i > self._block}
        for (i, j), projection, scale in zip(hidden.layers, hidden.projections, hidden.scales, strict=True):
            if i == self._block:
                factor = hidden.weight / (len(hidden.layers) * scale * projection.shape[1])
                projection = projection.to(x.device)
                mapped: Tensor = _SquaredError.apply(x[self.where], projection, self.teacher[j], factor)
                self.loss = self.loss + mapped
        self.teacher = {j: states for j, states in self.teacher.items() if j in kept}
        self._block += 1


class _SquaredError(torch.autograd.Function):
    """`factor * (x @ projection - y).square().sum()`, of which only x's gradient is kept, in y's type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Tensor, y: Tensor, factor: float) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a loss in bf16 would have two digits
            error = torch.addmm(y.float(), x.float(), projection, beta=-1)
            ctx.save_for_backward((2 * factor * error @ projection.T).to(y.dtype))
            ctx.dtype = x.dtype
            return factor * error.square_().sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (d_x,) = ctx.saved_tensors
        return d_x.to(ctx.dtype) * grad, None, None, None


@dataclass(frozen=True)
class Distill(Chat):
    """Predict what the assistant says as a teacher would: its probabilities of all tokens beside the one token.

    Held-out data is measured as for `Chat`, so that both can be compared.

    Args:
        teacher: of the same tokenizer. It moves to the student's device and attends by the operators that the student
            uses; its matrices are rounded to the type that training multiplies in.
        divergence: "forward" covers all that the teacher finds likely, "reverse" seeks what it finds likeliest.
        mix: share of the divergence in the loss; the rest is cross-entropy.
        prompts: what the teacher thinks of a token that the assistant does not say, beside one that it says.
    """

    name: str = "distill"
    teacher: Transformer = field(kw_only=True, repr=False, compare=False)
    divergence: Divergence = field(default="forward", kw_only=True)
    temperature: float = field(default=1.0, kw_only=True)
    mix: float = field(default=0.5, kw_only=True)
    prompts: float = field(default=0.0, kw_only=True)
    hidden: HiddenStates | None = field(default=None, kw_only=True, repr=False, compare=False)

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Summed loss in nats over what the assistant says, and over the rest if `prompts`: a differentiable scalar."""
        answers = batch.targets != IGNORE
        where = batch.document_ids >= 0 if self.prompts else answers
        others: list[Tensor] = []
        # First, so that what its blocks take is free again when the student's activations stand in memory.
        with torch.no_grad():
            teacher = narrowed(alongside(self.teacher, model))
            dtype = teacher.lm_head.weight.dtype
            watch = (lambda x: others.append(x[answers].to(dtype))) if self.hidden else None
            teacher_hidden = teacher.model(batch.input_ids, batch.document_ids, watch=watch)[where]
        compared = self.hidden.compare(others, answers) if self.hidden else None
        others.clear()
        hidden = model.model(batch.input_ids, batch.document_ids, watch=compared)[where]
        loss = chunked_distillation(
            hidden,
            model.lm_head.weight,
            teacher_hidden,
            teacher.lm_head.weight,
            batch.targets[where],
            divergence=self.divergence,
            temperature=self.temperature,
            mix=self.mix,
            prompts=self.prompts,
        )
        return loss + compared.loss if compared else loss


def alongside(frozen: Transformer, model: Transformer) -> Transformer:
    """A model that is not trained, on the device of one that is, in evaluation mode and with the same operators."""
    device = model.lm_head.weight.device
    if frozen.lm_head.weight.device != device:
        frozen.to(device)
    fused = model.model.attend is not block_causal_attention
    if fused != (frozen.model.attend is not block_causal_attention):
        frozen.fuse(fused)
    return frozen.eval().requires_grad_(False)


def narrowed(frozen: Transformer) -> Transformer:
    """A model whose matrices are kept as autocast would round them for each product: half the memory in bf16.

    From then on it works under autocast only.
    """
    device = frozen.lm_head.weight.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        for module in frozen.modules():
            if isinstance(module, nn.Linear | nn.Embedding) and module.weight.dtype != dtype:
                module.to(dtype)
    return frozen

"""Training in several processes, one a device, as `torchrun` starts them: all take the same steps.

What decides how a run goes on (the time that is left, a signal, a loss that is not finite) is decided once for
all ranks, or some would wait for ever for the others. A run in one process never starts torch.distributed.
"""

import copy
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.optim import Muon, Optimizer

from wikigpt.errors import UserError
from wikigpt.launch import launched
from wikigpt.model import Transformer
from wikigpt.train.batches import Batch
from wikigpt.train.trouble import TrainingError

if TYPE_CHECKING:
    from wikigpt.train.objectives import Objective

T = TypeVar("T")
MESSAGE_BYTES = 2048  # of what rank 0 tells the others, as JSON
BUCKET_BYTES = 25 * 2**20  # DistributedDataParallel's default: large enough for bandwidth, small enough to overlap
# While rank 0 encodes the tokens of a large wiki the others wait. A rank that dies is noticed at once all the
# same: its connections close. Only NCCL, which has its own group, must give up sooner (its default, 10 minutes).
PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class World:
    """The processes of a run, and how they agree; by default one, which has nobody to ask.

    What they tell each other are some bytes a step, over gloo and between CPUs, so that no GPU has to wait.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1  # how many of them share this machine
    gradients: Any = None  # process group that weights and gradients go over; None: the same as for messages

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and shows things."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """The sum over the ranks of each of some numbers."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, value: float) -> float:
        """The largest rank's value."""
        return self._reduce((value,), dist.ReduceOp.MAX)[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so on some rank."""
        return self.max(flag) > 0

    def all(self, flag: bool) -> bool:
        """Whether it is so on every rank."""
        return not self.any(not flag)

    def agree(self, value: T) -> T:
        """Rank 0's value, anything that JSON can hold in `MESSAGE_BYTES`."""
        if self.size == 1:
            return value
        text = json.dumps(value).encode().ljust(MESSAGE_BYTES)
        message = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        dist.broadcast(message, 0)
        agreed: T = json.loads(message.numpy().tobytes())
        return agreed

    def share(self, batch_size: int) -> int:
        """How many of a batch's rows are for each rank: rank r's are those from `r * share` on.

        Raises:
            UserError: they cannot be dealt out evenly.
        """
        if batch_size % self.size:
            raise UserError(
                f"batch_size={batch_size} sequences cannot be dealt out evenly to {self.size} processes; "
                f"set batch_size={math.ceil(batch_size / self.size) * self.size}, for example."
            )
        return batch_size // self.size

    def check_same(self, run: str) -> None:
        """Raise `UserError` unless all ranks have the same data and settings, whose fingerprint is `run`."""
        if self.any(self.agree(run) != run):
            raise UserError(
                "the processes of this run see different data or settings; start all with the same command, and give "
                "all machines the same files (a shared folder)."
            )

    def wait(self) -> None:
        """Return when all ranks have come here."""
        self.sum(0)

    def _reduce(self, values: Iterable[float], operation: Any) -> list[float]:
        if self.size == 1:
            return [*values]
        tensor = torch.tensor([*values], dtype=torch.float64)
        dist.all_reduce(tensor, operation)
        result: list[float] = tensor.tolist()
        return result


@contextmanager
def joined() -> Iterator[World]:
    """The world of this process, joined if need be; alone where it was not `launched` with others.

    Raises:
        TrainingError: the connection to another rank broke, because that one died or failed.
        UserError: more processes on a machine than it has GPUs.
    """
    if not launched():
        yield World()
        return
    joins = not dist.is_initialized()
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if joins and torch.cuda.is_available():
        if local_size > torch.cuda.device_count():
            raise UserError(
                f"{local_size} processes were started on a machine with {torch.cuda.device_count()} GPUs; "
                f"give torchrun --nproc-per-node {torch.cuda.device_count()}."
            )
        torch.cuda.set_device(local_rank)
    try:
        if joins:
            _join()
        yield World(dist.get_rank(), dist.get_world_size(), local_size, _nccl() if torch.cuda.is_available() else None)
    except RuntimeError as error:  # gloo has no exception of its own
        if isinstance(error, TrainingError) or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise TrainingError(
            "the connection to another process of this run is lost: it was killed, it failed, or its machine is "
            f"gone. The same command goes on from the last checkpoint. ({str(error).splitlines()[0]})"
        ) from error
    # After an error the others may be gone, and leaving together would wait for them; the process ends anyway.
    if joins:
        dist.destroy_process_group()


def _join() -> None:
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    # The store may be the launcher's and hold addresses of processes that it has started again (--max-restarts).
    store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=PATIENCE)


@cache
def _nccl() -> Any:
    return dist.new_group(backend="nccl")


def main_first(work: Callable[[], Any]) -> None:
    """Have the main process do `work`, such as write a file; the others wait for it."""
    with joined() as world:
        if world.main:
            work()
        world.wait()


def first_to_speak() -> bool:
    """Whether this process shall report its error: of all ranks, the first that asks.

    The counter is in the launcher's store, which outlives the ranks; where it cannot be reached, each speaks.
    """
    address, port = os.environ.get("MASTER_ADDR"), int(os.environ.get("MASTER_PORT", "0"))
    if not launched() or not address:
        return True
    try:
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5), wait_for_workers=False)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return store.add(f"wikigpt/spoke/{attempt}", 1) == 1
    except (RuntimeError, ValueError):
        return True


class Parallel:
    """How the ranks share one model. This is how one rank does: it has all of it.

    Attributes:
        model: what this rank trains.
        sharded: whether its weights are `DTensor`s, of which C++ operators know nothing.
    """

    sharded = False

    def __init__(self, model: Transformer, world: World):
        self.model, self.world = model, world

    def loss(self, objective: "Objective", batch: Batch) -> Tensor:
        """The objective's loss on a batch of this rank's own, in nats, a differentiable scalar."""
        return objective.loss(self.model, batch)

    @contextmanager
    def backward(self, *, last: bool) -> Iterator[None]:
        """Around a backward pass; behind a step's `last` one the gradients are the sums over all ranks."""
        yield

    def collect(self) -> Transformer:
        """The model with its weights whole, on every rank; all ranks have to call it."""
        return self.model

    def distribute(self, load: Callable[[Transformer], None]) -> None:
        """Have `load` set the weights of a whole model, and keep this rank's part of them."""
        load(self.model)

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors in CPU memory on rank 0, nothing elsewhere; all ranks have to call it."""
        return {name: tensor.detach().cpu() for name, tensor in tensors.items()} if self.world.main else {}

    def part_of(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """This rank's part of a whole tensor that belongs to a parameter, such as a momentum."""
        return tensor

    def adapted(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """The optimizers of the model, able to step on what this rank has of it."""
        return optimizers


class Replicated(Parallel):
    """Each rank has the whole model; gradients are summed, in buckets, while backward still runs (Li et al. 2020).

    Not by DistributedDataParallel: objectives call parts of the model, beside its `forward`; it divides by the
    number of ranks, where we by the targets of all; and it deals out its buckets anew after the first step, so
    that a resumed run would sum more than two ranks in another order, and not go on bit for bit.
    """

    def __init__(self, model: Transformer, world: World):
        super().__init__(model, world)
        self.buckets: list[list[nn.Parameter]] = []
        room = 0
        # Backward comes to the last layers first.
        for parameter in reversed([p for p in model.parameters() if p.requires_grad]):
            if room < parameter.nbytes:
                self.buckets.append([])
                room = BUCKET_BYTES
            self.buckets[-1].append(parameter)
            room -= parameter.nbytes

    @contextmanager
    def backward(self, *, last: bool) -> Iterator[None]:
        """Around a backward pass; behind a step's `last` one the gradients are the sums over all ranks."""
        if not last:
            yield
            return
        bucket_of: dict[Tensor, int] = {parameter: i for i, bucket in enumerate(self.buckets) for parameter in bucket}
        missing = [len(bucket) for bucket in self.buckets]
        sent: list[tuple[Any, Tensor]] = []

        def arrived(parameter: Tensor) -> None:
            missing[bucket_of[parameter]] -= 1
            while len(sent) < len(missing) and missing[len(sent)] == 0:  # in the same order on all ranks
                send()

        def send() -> None:
            gradients = [p.grad.flatten() for p in self.buckets[len(sent)] if p.grad is not None]
            flat = torch.cat(gradients) if gradients else torch.zeros(1)
            sent.append((dist.all_reduce(flat, group=self.world.gradients, async_op=True), flat))

        hooks = [parameter.register_post_accumulate_grad_hook(arrived) for parameter in bucket_of]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        while len(sent) < len(self.buckets):  # buckets with parameters that had no part in the loss
            send()
        for (work, flat), bucket in zip(sent, self.buckets, strict=True):
            work.wait()
            used = [parameter for parameter in bucket if parameter.grad is not None]
            for parameter, gradient in zip(used, flat.split([p.numel() for p in used]), strict=False):
                parameter.grad = gradient.view_as(parameter)


class _Root(nn.Module):
    """What FSDP sees called: it gathers weights before a module's `forward`, and objectives call parts of a model."""

    def __init__(self, model: Transformer):
        super().__init__()
        self.model = model

    def forward(self, objective: "Objective", batch: Batch) -> Tensor:
        return objective.loss(self.model, batch)


class Sharded(Parallel):
    """Each rank has its share of every tensor and gathers a block when it needs it: FSDP (Zhao et al. 2023).

    Args:
        model: stays in CPU memory, where checkpoints pass through it.
    """

    sharded = True

    def __init__(self, model: Transformer, world: World, device: torch.device):
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        super().__init__(copy.deepcopy(model), world)
        self.whole = model
        everyone: Any = world.gradients or dist.group.WORLD
        self.mesh = DeviceMesh.from_group(everyone, device.type)
        for layer in self.model.model.layers:
            fully_shard(layer, mesh=self.mesh)
        root = _Root(self.model)
        fully_shard(root, mesh=self.mesh)
        self.root: Any = root
        for module in root.modules():
            if isinstance(module, FSDPModule):  # sums, where FSDP would divide by the number of ranks
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def loss(self, objective: "Objective", batch: Batch) -> Tensor:
        """The objective's loss on a batch of this rank's own, in nats, a differentiable scalar."""
        loss: Tensor = self.root(objective, batch)
        return loss

    @contextmanager
    def backward(self, *, last: bool) -> Iterator[None]:
        """Around a backward pass; behind a step's `last` one the gradients are the sums over all ranks."""
        self.root.set_requires_gradient_sync(last)
        self.root.set_is_last_backward(last)
        yield

    @torch.no_grad()
    def collect(self) -> Transformer:
        """The model with its weights whole, on every rank; all ranks have to call it."""
        self.root.reshard()  # an evaluation leaves the embedding gathered
        for own, part in zip(self.whole.parameters(), self.model.parameters(), strict=True):
            own.copy_(whole(part))
        return self.whole

    @torch.no_grad()
    def distribute(self, load: Callable[[Transformer], None]) -> None:
        """Have `load` set the weights of a whole model, and keep this rank's part of them."""
        load(self.whole)
        self.root.reshard()
        for own, part in zip(self.whole.parameters(), self.model.parameters(), strict=True):
            part.copy_(self.part_of(own.detach(), part))

    def gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors in CPU memory on rank 0, nothing elsewhere; all ranks have to call it."""
        gathered = {}
        for name, tensor in tensors.items():  # one at a time, since whole they may not all fit on a GPU
            gathered_tensor = whole(tensor)
            if self.world.main:
                gathered[name] = gathered_tensor.detach().cpu()
        return gathered

    def part_of(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """This rank's part of a whole tensor that belongs to a parameter, such as a momentum."""
        from torch.distributed.tensor import DTensor, distribute_tensor

        if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
            return tensor  # a count of steps
        tensor = tensor.to(parameter.device)
        return distribute_tensor(tensor, self.mesh, parameter.placements, src_data_rank=None)

    def adapted(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """Muon sees whole matrices, and so the same ones as in one process.

        Its Newton-Schulz steps on shards would be right, too, but DTensor would gather some matrix for each of their
        15 products. Gradients and momenta are whole only during the step, when no activations are kept.
        """
        from torch.distributed.tensor import Replicate

        everywhere = [Replicate()]

        def gather(optimizer: Optimizer, *_: Any) -> None:
            for parameter in optimizer.param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.redistribute(placements=everywhere)
                    state = optimizer.state[parameter]
                    if "momentum_buffer" in state:
                        state["momentum_buffer"] = state["momentum_buffer"].redistribute(placements=everywhere)

        def shard(optimizer: Optimizer, *_: Any) -> None:
            states: dict[Any, dict[str, Any]] = optimizer.state
            for parameter, state in states.items():
                state["momentum_buffer"] = state["momentum_buffer"].redistribute(placements=parameter.placements)

        for optimizer in optimizers:
            if isinstance(optimizer, Muon):
                optimizer.register_step_pre_hook(gather)
                optimizer.register_step_post_hook(shard)
        return optimizers


def whole(tensor: Tensor) -> Tensor:
    """A tensor that FSDP has sharded as one of its own, on every rank; all ranks have to call it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def parallel(model: Transformer, world: World, device: torch.device, kind: str) -> Parallel:
    """The model on its device, shared by the ranks in the way of `TrainConfig.parallel`."""
    if world.size > 1 and kind == "fsdp":
        return Sharded(model, world, device)
    model = model.to(device)
    return Replicated(model, world) if world.size > 1 else Parallel(model, world)

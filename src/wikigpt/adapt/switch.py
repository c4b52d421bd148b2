"""Several adapters over one base, for answering: one at a time is in use, or none."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from wikigpt.adapt.files import Adapter, attach, check_base, load_adapter
from wikigpt.adapt.virtual import remove_virtual_tokens
from wikigpt.adapt.weights import adapter_of, bake
from wikigpt.errors import UserError
from wikigpt.model import Transformer


class Switch:
    """Changes a model from one adapter to another, by putting other weights in its place.

    The adapted weights are computed once, at the change, so that answers come as fast as the base's.
    """

    def __init__(self, model: Transformer, adapters: Mapping[str, Adapter]):
        self.model, self.adapters = model, dict(adapters)
        self.name: str | None = None
        self._replaced: dict[nn.Parameter, torch.Tensor] = {}  # the base's weights, where others are in their place

    def use(self, name: str | None) -> None:
        """Use an adapter by its name; None: the base alone.

        Raises:
            UserError: there is none of that name, or it does not fit the model. Then the base alone is in use.
        """
        if name is not None and name not in self.adapters:
            raise UserError(f"there is no adapter {name!r}; there are: {', '.join(self.adapters) or 'none'}.")
        self._restore()
        if name is None:
            return
        try:
            attach(self.model, self.adapters[name], Path(name))
            self.name = name
        finally:
            for linear in [m for m in self.model.modules() if adapter_of(m) is not None]:
                self._bake(linear)
            if self.name is None:  # it did not fit, perhaps half-way through
                self._restore()

    def _restore(self) -> None:
        remove_virtual_tokens(self.model.model)
        for parameter, weight in self._replaced.items():
            parameter.data = weight
        self._replaced, self.name = {}, None

    def _bake(self, linear: nn.Module) -> None:
        originals = [chain.original for chain in linear.parametrizations.values()]  # type: ignore[operator]
        self._replaced |= {original: original.data for original in originals}
        bake(linear, keep=True)

    @property
    def virtual_tokens(self) -> list[int]:
        """Ids of the tokens that come before each prompt."""
        n = 0 if self.name is None else self.adapters[self.name].n_virtual
        return [*range(self.model.config.vocab_size, self.model.config.vocab_size + n)]


def load_adapters(base: Path, folders: list[Path]) -> dict[str, Adapter]:
    """Adapters for `base` by the names of their folders.

    Raises:
        UserError: one is damaged, is for another base, or two have the same name.
    """
    adapters: dict[str, Adapter] = {}
    for folder in folders:
        adapter, name = load_adapter(folder), folder.resolve().name
        check_base(folder, adapter, base)
        if name in adapters:
            raise UserError(f"two adapters are called {name!r}; rename the folder of one.")
        adapters[name] = adapter
    return adapters

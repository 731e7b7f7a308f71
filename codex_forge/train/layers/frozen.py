"""Frozen layers are taken off the training model: it starts from what they would have given.

Their places are held by stand-ins without weights that return activations handed in from outside,
so that the names of all other weights stay as they are, and the architecture's own code runs on
top. A forward pass that was handed nothing runs the frozen layers first: the model answers as if it
were whole, only that the frozen part never has dropout.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from codex_forge.errors import ConfigError
from codex_forge.train.layers.anatomy import anatomy, freeze
from codex_forge.train.layers.probing import Features, at_rest, probe, run_until

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_NEAR = {torch.float32: 1e-4, torch.float64: 1e-6}
_NEAR_HALF = 5e-2


class Frozen:
    """The embeddings and the lowest layers of a model, off it until `restore`."""

    def __init__(self, model: SentenceTransformer, layers: int) -> None:
        """Freeze the `layers` lowest layers (at least one) and put stand-ins in their places.

        Weights that frozen and other layers share stay in the model, frozen.

        Raises:
            ConfigError: see `layers.freeze`; or the model does not give the same vectors then.
        """
        self.weights = freeze(model, embeddings=True, layers=layers)
        """All that the frozen output depends on."""
        self.model, self.layers = model, layers
        self._found = anatomy(model)
        self._transformer = self._found.transformer
        self._handed: torch.Tensor | None = None
        self._below = False
        self._stand_ins: list[_StandIn] = []
        eager: Any = torch.compiler.disable  # no graph can leave a model half way
        self._bottom_in_eager = eager(self.bottom)
        before = self._vectors()
        self._put_off()
        self._hook = model[0].register_forward_pre_hook(self._before)
        self._compare(before)

    def bottom(self, features: Features) -> torch.Tensor:
        """What the frozen layers give for texts, shape (texts, tokens, width); without dropout."""
        self._below = True
        try:
            with torch.no_grad(), at_rest(self._transformer):
                return run_until(self.model, self._found.layers[self.layers - 1], features)
        finally:
            self._below = False

    def hand(self, hidden: torch.Tensor) -> None:
        """Let the next forward pass, and only that, start from what `bottom` gave."""
        self._handed = hidden

    def restore(self) -> None:
        """Put all back in its place; the model is whole, its frozen part still frozen."""
        self._hook.remove()
        self._handed = None
        for stand_in in self._stand_ins:
            stand_in.stands_for.train(self._transformer.training)
        for i, stand_in in enumerate(self._stand_ins[1:]):
            self._found.layers[i] = stand_in.stands_for
        setattr(self._transformer, self._embeddings, self._stand_ins[0].stands_for)
        self._stand_ins = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stand_ins:
            self.restore()

    def _put_off(self) -> None:
        self._embeddings = self._found.embeddings()
        embeddings = self._transformer.get_submodule(self._embeddings)
        taken = self._found.layers[: self.layers]
        self._stand_ins = [
            _ForEmbeddings(embeddings, self),
            *(_ForLayer(layer, self, layer is taken[-1]) for layer in taken),
        ]
        setattr(self._transformer, self._embeddings, self._stand_ins[0])
        for i, stand_in in enumerate(self._stand_ins[1:]):
            self._found.layers[i] = stand_in

    def _before(self, _: nn.Module, given: tuple[Features, ...]) -> None:
        """Run the frozen layers for a forward pass that was handed nothing."""
        if self._handed is None and not self._below:
            self.hand(self._bottom_in_eager(given[0]))

    def _vectors(self) -> torch.Tensor:
        with torch.no_grad(), at_rest(self.model):
            found: torch.Tensor = self.model(probe(self.model))["sentence_embedding"]
            return found

    def _compare(self, before: torch.Tensor) -> None:
        """The architecture may do what stand-ins cannot know: see that vectors are the same."""
        try:
            after = self._vectors()
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            self.restore()
            raise self._cannot() from error
        near = _NEAR.get(before.dtype, _NEAR_HALF) * float(before.abs().max())
        if not float((before - after).abs().max()) <= near:
            self.restore()
            raise self._cannot()

    def _cannot(self) -> ConfigError:
        return ConfigError(
            f"a {type(self._transformer).__name__} cannot be cut between its layers",
            where=f"train.freeze_layers={self.layers}",
            do="set it to 0",
        )


class _StandIn(nn.Module):
    """In the place of a frozen module, whose parameters it hides."""

    def __init__(self, original: nn.Module, frozen: Frozen) -> None:
        super().__init__()
        original.eval()
        # What the architecture asks of its layers, such as the kind of their attention.
        for name, value in vars(original).items():
            if not name.startswith("_") and name != "training":
                setattr(self, name, value)
        self._hidden = (original,)  # in a tuple: torch registers modules that are attributes
        self._frozen = frozen

    @property
    def stands_for(self) -> nn.Module:
        """The frozen module."""
        return self._hidden[0]


class _ForEmbeddings(_StandIn):
    """Gives zeros of the right shape: the stand-in of the lowest layer looks at none of them."""

    _width = 0

    def forward(self, *given: Any, **named: Any) -> Any:
        if self._frozen._below:
            found = self.stands_for(*given, **named)
            self._width = found.shape[-1]
            return found
        hidden: Any = self._frozen._handed  # `_before` has seen to it
        return hidden.new_zeros(1).expand(*hidden.shape[:2], self._width)


class _ForLayer(_StandIn):
    """Gives what was handed in; the topmost frozen layer's is the last that does."""

    _beside: tuple[None, ...] | None = None
    """What a layer gives beside activations, such as attentions: not there any more."""

    def __init__(self, original: nn.Module, frozen: Frozen, is_last: bool) -> None:
        super().__init__(original, frozen)
        self._is_last = is_last

    def forward(self, *given: Any, **named: Any) -> Any:
        if self._frozen._below:
            found = self.stands_for(*given, **named)
            self._beside = (None,) * (len(found) - 1) if isinstance(found, tuple) else None
            return found
        hidden = self._frozen._handed
        if self._is_last:
            self._frozen._handed = None
        return hidden if self._beside is None else (hidden, *self._beside)

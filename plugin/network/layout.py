"""The trunk of a config unrolled into units, with every length, width and skip connection worked out.

A unit is the smallest piece that is computed in one go: one level of a tower, one transformer
block, one U-net step. Their names are the first part of every weight's name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from kipoi_borzoi.errors import ConfigError
from kipoi_borzoi.network.config import (
    Block,
    ConvDNA,
    ConvNAC,
    Cropping,
    NetworkConfig,
    ResTower,
    TransformerTower,
    UnetConv,
)
from kipoi_borzoi.network.span import (
    Span,
    conv_input,
    conv_reached,
    pool_input,
    pool_reached,
    upsample_input,
    upsample_reached,
)


@dataclass(frozen=True)
class Unit:
    """One unit of the trunk.

    Attributes
    ----------
    name : str
        Unique in the trunk: ``conv_dna``, ``res_tower.3``, ``unet_conv_1``.
    block : Block
        The settings it is made from.
    in_length, out_length : int
        Positions going in and coming out.
    in_width, out_width : int
        Channels going in and coming out.
    skip_length : int
        Positions of the representation that later U-net steps may take from here (before pooling
        for the levels of a residual tower, else the output).
    skip_from : int or None
        For a U-net step, the index of the unit whose representation it adds.
    skip_width : int
        Channels of that representation.
    whole : bool
        Whether it is to be computed over the whole level, whatever is wanted of it.
    """

    name: str
    block: Block
    in_length: int
    out_length: int
    in_width: int
    out_width: int
    skip_length: int
    skip_from: int | None = None
    skip_width: int = 0
    whole: bool = False

    @property
    def is_global(self) -> bool:
        """Whether every output position depends on every input position."""
        return self.whole or isinstance(self.block, TransformerTower)


@dataclass(frozen=True)
class Layout:
    """The units of a trunk in order."""

    seq_length: int
    units: tuple[Unit, ...]

    @classmethod
    def of(cls, config: NetworkConfig) -> Layout:
        """Follow the lengths and widths through the trunk of ``config``.

        Raises
        ------
        ConfigError
            A length or width that does not work out; the message names the unit.
        """
        units: list[Unit] = []
        skips: list[int] = []  # candidates for skip connections, in Calico's order
        length, width = config.seq_length, 4
        for name, block, filters in _unrolled(config.trunk):
            unit = _unit(name, block, filters, length, width, units, skips)
            units.append(unit)
            skips.append(len(units) - 1)
            length, width = unit.out_length, unit.out_width
        return cls(config.seq_length, tuple(units))

    @property
    def bins(self) -> int:
        """Output positions."""
        return self.units[-1].out_length

    @property
    def width(self) -> int:
        """Channels that the heads read."""
        return self.units[-1].out_width

    @property
    def crop(self) -> int:
        """Output positions removed at each end."""
        return sum(unit.block.cropping for unit in self.units if isinstance(unit.block, Cropping))

    @property
    def bin_size(self) -> int:
        """bp per output position."""
        return self.stride(len(self.units))

    @property
    def stem(self) -> int:
        """How many units come before the first global one: the part that can run tile by tile."""
        for index, unit in enumerate(self.units):
            if unit.is_global:
                return index
        return 0

    @property
    def stem_stride(self) -> int:
        """bp per position that leaves the stem."""
        return self.stride(self.stem)

    def stride(self, last: int) -> int:
        """bp per position after the units before ``last``."""
        stride = 1
        for unit in self.units[:last]:
            stride = stride // 2 if isinstance(unit.block, UnetConv) else stride * getattr(unit.block, "pool_size", 1)
        return stride

    def skips_out_of(self, first: int, last: int) -> list[int]:
        """Indices of the units ``first`` to ``last`` (exclusive) whose representation a later unit adds, in order."""
        used = {unit.skip_from for unit in self.units[last:]}
        return sorted(index for index in used if index is not None and first <= index < last)

    def with_whole(self, names: frozenset[str]) -> Layout:
        """The layout in which the units called ``names`` are computed over their whole level, as adapters may need."""
        if names == {unit.name for unit in self.units if unit.whole}:
            return self
        return replace(self, units=tuple(replace(unit, whole=unit.name in names) for unit in self.units))

    def spans(self, first: int, last: int, out: Span, skips: dict[int, Span]) -> list[UnitSpans]:
        """Work back from what is wanted of units ``first`` to ``last`` (exclusive) to what each must compute.

        Parameters
        ----------
        out : Span
            Wanted output of unit ``last - 1``.
        skips : dict
            Wanted representations by unit index, beside those that units of the range take from each other.

        Returns
        -------
        list of UnitSpans, one per unit of the range. What a unit gives may be more than the next one is
        given, where it is computed whole. Units before ``first`` whose representation is
        needed appear in the ``skip_input`` of the unit that takes it.
        """
        wanted: dict[int, Span] = dict(skips)
        result: list[UnitSpans] = []
        for index in range(last - 1, first - 1, -1):
            unit = self.units[index]
            skip_out = wanted.get(index)
            if unit.whole:
                out = Span.whole(unit.out_length)
            spans = _unit_spans(unit, out, skip_out)
            if unit.skip_from is not None:
                wanted[unit.skip_from] = spans.skip_input.union(wanted.get(unit.skip_from))
            result.append(spans)
            out = spans.input
        return result[::-1]

    def reached(self, first: int, last: int, changed: Span) -> list[Reached]:
        """Work forward from a changed stretch of the input of unit ``first``: which positions may change with it.

        Returns
        -------
        list of Reached, one per unit of ``first`` to ``last`` (exclusive); all else stays as it is. The units
        take representations only from each other.
        """
        result: list[Reached] = []
        out: Span | None = changed
        for unit in self.units[first:last]:
            added = None if unit.skip_from is None else result[unit.skip_from - first].skip
            result.append(_reached(unit, out, added))
            out = result[-1].out
        return result

    def owned(self, first: int, last: int, out: Span) -> dict[int, Span]:
        """For every representation that later units add, the positions that stand at the place of ``out``.

        Neighbouring stretches of the output of unit ``last - 1`` own neighbouring ones, and all of it owns all:
        so that a level can be put together from tiles.
        """
        result, whole = {}, out.size == out.length
        kept = self.skips_out_of(first, last)
        for index in range(last - 1, first - 1, -1):
            unit = self.units[index]
            level = _level(unit, out)
            if index in kept:
                result[index] = Span.whole(unit.skip_length) if whole else level
            out = _place_before(unit, out)
        return {index: result[index] for index in kept}


@dataclass(frozen=True)
class UnitSpans:
    """What one unit is given and what it gives.

    Attributes
    ----------
    input, out : Span
    skip_out : Span or None
        The representation that later units need from here.
    skip_input : Span or None
        What a U-net step needs of the representation it adds.
    """

    input: Span
    out: Span
    skip_out: Span | None = None
    skip_input: Span | None = None


@dataclass(frozen=True)
class Reached:
    """What a change of the input can change of a unit's output and of its representation; None for nothing."""

    out: Span | None
    skip: Span | None


def _unrolled(trunk: tuple[Block, ...]):
    """Yield (unit name, block, filters) for every unit."""
    kinds = Counter(block.name for block in trunk)
    seen: Counter = Counter()
    for block in trunk:
        name = block.name.lower()
        if kinds[block.name] > 1:
            name = f"{name}_{seen[block.name]}"
        seen[block.name] += 1
        if isinstance(block, ResTower):
            for level, filters in enumerate(block.level_filters()):
                yield f"{name}.{level}", block, filters
        elif isinstance(block, TransformerTower):
            for level in range(block.repeat):
                yield f"{name}.{level}", block, None
        else:
            yield name, block, getattr(block, "filters", None)


def _unit(name, block, filters, length, width, units, skips) -> Unit:
    """Work out one unit; ``units`` are those before it."""
    filters = filters or width
    if isinstance(block, ConvDNA | ConvNAC):
        if isinstance(block, ConvNAC) and block.residual and filters != width:
            raise ConfigError(f"{name}: a residual needs as many filters ({filters}) as input channels ({width})")
        pooled = -(-length // block.pool_size)
        return Unit(name, block, length, pooled, width, filters, pooled)
    if isinstance(block, ResTower):
        return Unit(name, block, length, -(-length // block.pool_size), width, filters, length)
    if isinstance(block, TransformerTower):
        if width % block.heads:
            raise ConfigError(f"{name}: {width} channels cannot be divided among {block.heads} heads")
        if block.dense_expansion and int(block.dense_expansion * width) < 1:
            raise ConfigError(f"{name}: dense_expansion {block.dense_expansion} of {width} channels leaves none")
        return Unit(name, block, length, length, width, width, length)
    if isinstance(block, UnetConv):
        # Calico looks for the latest representation of twice the length, the last one excepted.
        for index in reversed(skips):
            tower_end = index + 1 < len(units) and units[index + 1].block is not units[index].block
            if tower_end and units[index].out_length == 2 * length != units[index].skip_length:
                raise ConfigError(f"{name}: adding the pooled output of {units[index].name} is not supported")
            if units[index].skip_length == 2 * length:
                skip_width = units[index].out_width
                return Unit(name, block, length, 2 * length, width, width, 2 * length, index, skip_width)
        raise ConfigError(
            f"{name}: no earlier representation has {2 * length} positions, twice the current {length}"
            f" (is seq_length a multiple of the total pooling?)"
        )
    if isinstance(block, Cropping):
        kept = length - 2 * block.cropping
        if kept < 1:
            raise ConfigError(f"{name}: removing {block.cropping} bins at each end of {length} leaves none")
        return Unit(name, block, length, kept, width, width, kept)
    raise TypeError(f"no unit for {type(block).__name__}")


def _unit_spans(unit: Unit, out: Span, skip_out: Span | None) -> UnitSpans:
    """What ``unit`` needs to give ``out`` and ``skip_out``."""
    block = unit.block
    if isinstance(block, ResTower):
        # The further convolutions of a level are 1 wide, so only the first one reads beyond its place.
        level = pool_input(out, block.pool_size, unit.in_length).union(skip_out)
        return UnitSpans(conv_input(level, block.kernel_size, block.dilation_rate), out, skip_out)
    out = out.union(skip_out)
    if isinstance(block, ConvDNA):
        return UnitSpans(conv_input(pool_input(out, block.pool_size, unit.in_length), block.kernel_size), out, skip_out)
    if isinstance(block, ConvNAC):
        convolved = pool_input(out, block.pool_size, unit.in_length)
        return UnitSpans(conv_input(convolved, block.kernel_size, block.dilation_rate), out, skip_out)
    if isinstance(block, TransformerTower):
        return UnitSpans(Span.whole(unit.in_length), out, skip_out)
    if isinstance(block, UnetConv):
        skip_input = conv_input(out, block.kernel_size)
        return UnitSpans(upsample_input(skip_input), out, skip_out, skip_input)
    crop = block.cropping
    return UnitSpans(Span(out.start + crop, out.end + crop, unit.in_length), out, skip_out)


def _reached(unit: Unit, given: Span | None, added: Span | None) -> Reached:
    """What changes of ``unit`` when ``given`` of its input and ``added`` of the representation it adds do."""
    block = unit.block
    if isinstance(block, UnetConv):
        given = None if given is None else upsample_reached(given)
        given = added if given is None else given.union(added)
    if given is None:
        return Reached(None, None)
    if unit.is_global:
        return Reached(Span.whole(unit.out_length), Span.whole(unit.skip_length))
    if isinstance(block, Cropping):
        start, end = max(given.start - block.cropping, 0), min(given.end - block.cropping, unit.out_length)
        out = Span(start, end, unit.out_length) if start < end else None
        return Reached(out, out)
    level = conv_reached(given, block.kernel_size, getattr(block, "dilation_rate", 1))
    out = pool_reached(level, getattr(block, "pool_size", 1))
    return Reached(out, level if isinstance(block, ResTower) else out)


def _level(unit: Unit, out: Span) -> Span:
    """The positions of the representation of ``unit`` at the place of ``out``."""
    return pool_input(out, unit.block.pool_size, unit.in_length) if isinstance(unit.block, ResTower) else out


def _place_before(unit: Unit, out: Span) -> Span:
    """The positions of the input of ``unit`` at the place of ``out``, without what convolutions read beside it."""
    block = unit.block
    if isinstance(block, UnetConv):
        return upsample_input(out)
    if isinstance(block, Cropping):
        return Span(out.start + block.cropping, out.end + block.cropping, unit.in_length)
    return pool_input(out, getattr(block, "pool_size", 1), unit.in_length)

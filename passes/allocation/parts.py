"""The parts of a model: tied sites, types that rules fix, and what each type costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from ladder.errors import LadderError
from ladder.ir.dtype import DType
from ladder.ir.facts import Muxing, ProductCosts, Sensitivity
from ladder.ir.mux import Mux
from ladder.ir.site import Site
from ladder.passes.allocation import axes
from ladder.passes.allocation.problem import Option, Part
from ladder.passes.infra.patterns import Rule, check_pattern, matches

FLOAT = "fp32"  # the type of a site that is skipped
LOOK_UP = "Gather"  # one row per token: no product, so no time
NOISE = 1e-6  # bits per weight of fractional elements are floats


@dataclass(frozen=True)
class Fixed:
    """The type that --rule or --keep sets for a part, and the reason."""

    type: str
    why: str


@dataclass(frozen=True)
class Use:
    """Sites that share a weight, in one type: what axes count the cost of."""

    sites: Sequence[Site]
    type: str
    loss: float
    costs: ProductCosts | None
    muxing: Muxing

    @property
    def bits(self) -> int:
        """Stored bits. A weight that is used in both orientations is stored in both."""
        dtype, extra = DType.parse(self.type), max(self._extras)
        copies = {site.transposed: site for site in self.sites}.values()
        bits = sum(ceil(dtype.stored_bits(site.n, site.k) - NOISE) for site in copies)
        if extra > 0:  # packed with its outliers; rows that are looked up are packed without
            copy = float(_products(self.sites) < len(self.sites))
            bits += ceil((extra + copy) * dtype.element.stored_bits * self.sites[0].parameters)
        return bits

    @property
    def seconds(self) -> float:
        """The products at M=1."""
        return self._time(self.costs.decode) if self.costs else 0.0

    @property
    def prefill(self) -> float:
        """The products at the prefill chunk."""
        return self._time(self.costs.prefill) if self.costs else 0.0

    def _time(self, table: Mapping[str, Mapping[str, float]]) -> float:
        count, first = _products(self.sites), self.sites[0]
        if self.costs is None or not count or not _has_time(self.costs, self.type, first):
            return 0.0
        return (count + sum(self._extras)) * table[self.type][f"{first.n}x{first.k}"]

    @property
    def _extras(self) -> list[float]:
        return [_extra(site, self.type, self.muxing) for site in self.sites]


def candidates(types: Sequence[DType]) -> tuple[str, ...]:
    """The types to choose among, in their usual text; fewer than two leave no choice."""
    floats = [str(t) for t in types if t.is_float]
    if floats:
        raise LadderError(
            f"--types: '{floats[0]}' is a float type; use --keep to leave sites in float"
        )
    names = tuple(dict.fromkeys(map(str, types)))
    if len(names) < 2:
        only = names[0] if names else "none"
        raise LadderError(
            f"--types: {only} leaves nothing to choose; give two or more, "
            "or compile with --type for one type everywhere"
        )
    return names


def groups_of(sites: Sequence[Site]) -> list[list[Site]]:
    """Sites grouped by the stored weight that they share."""
    groups: dict[int, list[Site]] = {}
    for site in sites:
        groups.setdefault(id(site.weight), []).append(site)
    return list(groups.values())


def fixed_groups(
    groups: Sequence[Sequence[Site]], rules: Sequence[Rule], keep: Sequence[str]
) -> dict[int, Fixed]:
    """Group number -> what --rule and --keep say; a later rule wins, --keep wins over all.

    A rule that takes effect nowhere contradicts the others, and is refused.
    """
    sites = [site for group in groups for site in group]
    kept: dict[int, Fixed] = {}
    for pattern in keep:
        check_pattern("--keep", pattern, sites)
        for number in _named(groups, pattern):
            kept[number] = Fixed(FLOAT, "kept by --keep")
    ruled: dict[int, Fixed] = {}
    for rule in rules:
        check_pattern("--rule", rule.pattern, sites)
        kind = FLOAT if rule.type.is_float else str(rule.type)
        for number in _named(groups, rule.pattern):
            ruled[number] = Fixed(kind, f"rule {rule}")
    result = {**ruled, **kept}
    for rule in rules:
        _refuse_idle(rule, [result[n] for n in _named(groups, rule.pattern)])
    return result


def _named(groups: Sequence[Sequence[Site]], pattern: str) -> list[int]:
    return [n for n, group in enumerate(groups) if any(matches(site, pattern) for site in group)]


def _refuse_idle(rule: Rule, got: list[Fixed]) -> None:
    kind = FLOAT if rule.type.is_float else str(rule.type)
    if all(fixed.type != kind for fixed in got):
        raise LadderError(
            f"rules contradict: --rule '{rule}' has no effect, since all of its sites are "
            f"{got[0].why if got[0].type == FLOAT else 'taken by ' + got[0].why} (a later rule "
            "wins, --keep wins over all; sites that share a weight share its type); remove one"
        )


def parts_of(
    groups: Sequence[Sequence[Site]],
    fixed: dict[int, Fixed],
    types: Sequence[str],
    sensitivity: Sensitivity | None,
    costs: ProductCosts | None,
    muxing: Muxing | None = None,
) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The parts, and notes on costs that are not known.

    Without a sensitivity all losses are 0, and sizes can still be computed. Muxed sites cost more:
    the chunks of their outliers take bytes and time.
    """
    parts, notes, muxed = [], [], muxing or Muxing()
    for number, group in enumerate(groups):
        rule = fixed.get(number)
        kinds = (rule.type,) if rule else tuple(types)
        known = _scores(group, sensitivity) if sensitivity else dict.fromkeys(kinds, 0.0)
        unknown = [t for t in kinds if t != FLOAT and t not in known]
        if unknown and rule is None:
            raise LadderError(
                f"site {group[0].name} was not measured in {unknown[0]}: "
                "measure-sensitivity has to run on this model with the same types"
            )
        if unknown:
            notes.append(
                f"{group[0].name}: its loss in {unknown[0]} was not measured; counted as 0"
            )
        if costs and rule is None:
            _check_times(group, kinds, costs)
        losses = {type: 0.0 if type in (*unknown, FLOAT) else known[type] for type in kinds}
        options = tuple(
            _option(Use(group, type, loss, costs, muxed)) for type, loss in losses.items()
        )
        if rule and costs and _products(group) and not _has_time(costs, rule.type, group[0]):
            notes.append(f"{group[0].name}: its time in {rule.type} is not known; counted as 0")
        names = tuple(site.name for site in group)
        why = rule.why if rule else ""
        parts.append(Part(names, _role(group), group[0].parameters, options, why))
    return tuple(parts), tuple(notes)


def _option(use: Use) -> Option:
    return Option(use.type, {what: cost(use) for what, cost in axes.costs().items()})


def _extra(site: Site, type: str, muxing: Muxing) -> float:
    """What the outliers of a site add, as a share of its product."""
    muxed = muxing.sites.get(site.name)
    if muxed is None or type == FLOAT or site.node.op_type == LOOK_UP:
        return 0.0
    return Mux.parse(muxed.mux).extra(DType.parse(type), site.k, muxed.channels)


def _role(group: Sequence[Site]) -> str:
    return "+".join(dict.fromkeys(site.role for site in group))


def _scores(group: Sequence[Site], sensitivity: Sensitivity) -> dict[str, float]:
    """Type -> loss. Sites that share a weight are measured together, under one name or all."""
    measured = [sensitivity.scores[s.name] for s in group if s.name in sensitivity.scores]
    if not measured:
        raise LadderError(
            f"site {group[0].name} was not measured: measure-sensitivity has to run on this model"
        )
    return {
        str(DType.parse(type)): float(measures[sensitivity.metric])
        for type, measures in measured[0].items()
    }


def _products(group: Sequence[Site]) -> int:
    return sum(site.node.op_type != LOOK_UP for site in group)


def _has_time(costs: ProductCosts, type: str, site: Site) -> bool:
    shape = f"{site.n}x{site.k}"
    return all(shape in table.get(type, {}) for table in (costs.decode, costs.prefill))


def _check_times(group: Sequence[Site], types: Sequence[str], costs: ProductCosts) -> None:
    """Check that all types that are compared have times."""
    site = group[0]
    for type in types if _products(group) else ():
        if not _has_time(costs, type, site):
            raise LadderError(
                f"site {site.name}: there is no measured time of {type} at {site.n}x{site.k}; "
                "measure it with the same types, or drop the type"
            )

"""What a stage's gather unit is told: its tables dealt to lanes, FIELD words, and steps."""

from __future__ import annotations

from dataclasses import dataclass

from rpaccel.config import Config
from rpaccel.errors import ConfigError
from rpaccel.features import offsets
from rpaccel.image_layout import FieldScope
from rpaccel.steps import Bag, Dense, step_word, steps
from sw_model.quantised import QuantisedModel

__all__ = ["GatherPlan", "deal_tables", "plan_gather"]

SCOPES = {"query": FieldScope.QUERY, "item": FieldScope.ITEM}


@dataclass(frozen=True)
class GatherPlan:
    """Tables and dense inputs of a stage's gather unit.

    Attributes
    ----------
    lanes : list of list of int
        Numbers of each lane's tables, in the order of its FIELD words.
    dense : list of int
        Where each piece of dense inputs goes, behind the first dense input.
    steps : list of bytes
        Words of the step memory.
    """

    lanes: list[list[int]]
    dense: list[int]
    steps: list[bytes]

    @property
    def used(self) -> int:
        """Lanes that have tables."""
        return sum(map(bool, self.lanes))


def deal_tables(config: Config, stage: int, model: QuantisedModel) -> list[list[int]]:
    """Deal tables to lanes: the one with most words to read first, to the lane with fewest.

    Raises
    ------
    ConfigError
        There are more tables than the lanes take.
    """
    gather, tables = config.hardware.gather[stage], config.features.tables
    if len(tables) > gather.lanes * gather.max_fields:
        raise ConfigError(
            f"there are {len(tables)} tables, but hardware.gather.{stage} has lanes = "
            f"{gather.lanes} of max_fields = {gather.max_fields}"
        )
    bus = config.hardware.memory.bus_bytes
    words = [
        table.lookups * -(-rows.rows.shape[1] // bus)
        for table, rows in zip(tables, model.tables, strict=True)
    ]
    lanes: list[list[int]] = [[] for _ in range(gather.lanes)]
    load = [0] * gather.lanes
    for number in sorted(range(len(tables)), key=lambda n: (-words[n], n)):
        free = [lane for lane in range(gather.lanes) if len(lanes[lane]) < gather.max_fields]
        lane = min(free, key=lambda lane: (load[lane], lane))
        lanes[lane].append(number)
        load[lane] += words[number]
    return [sorted(lane) for lane in lanes]


def plan_gather(config: Config, stage: int, model: QuantisedModel) -> GatherPlan:
    """Deal the tables of a stage to lanes, and cut an item's features into steps.

    Raises
    ------
    ConfigError
        Tables, pieces of dense inputs, or steps are more than the gather unit takes.
    """
    hardware, features = config.hardware, config.features
    gather, places = hardware.gather[stage], offsets(features)
    lanes = deal_tables(config, stage, model)
    fields: list[list[Bag | Dense]] = []
    for tables in lanes:
        bags: list[Bag | Dense] = []
        for field, number in enumerate(tables):
            t = features.tables[number]
            bag = Bag(field, SCOPES[t.scope], places[t.name], t.lookups, t.index_bits // 8)
            bags.append(bag)
        fields.append(bags)
    size = hardware.piece_bytes
    dense: list[Bag | Dense] = []
    begins = []
    for scope, before, count in (
        ("query", 0, features.dense_query),
        ("item", features.dense_query, features.dense_item),
    ):
        for done in range(0, count, size):
            dense.append(Dense(len(dense), SCOPES[scope], done, min(size, count - done)))
            begins.append(before + done)
    made = steps([*fields, dense], read_bytes=hardware.feature_read, piece_bytes=size)
    for what, count, limit in (
        ("pieces of dense inputs", len(dense), "max_fields"),
        ("steps an item", len(made), "max_steps"),
    ):
        if count > getattr(gather, limit):
            raise ConfigError(
                f"the features take {count} {what}, but hardware.gather.{stage}.{limit} = "
                f"{getattr(gather, limit)}"
            )
    return GatherPlan(lanes, begins, [step_word(*step) for step in made])

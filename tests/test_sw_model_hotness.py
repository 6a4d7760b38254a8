"""Accesses of each stage, counted from what the golden model ranks, item by item."""

from collections import Counter

import numpy as np
import pytest

from sw_model.funnel import Trace, rank_query
from sw_model.hotness import accesses
from sw_model.random_models import random_models, random_query
from tests.workloads import workload


@pytest.mark.parametrize("once", [[], [0]])
def test_matches_the_items_that_stages_rank(rng, once):
    config = workload()
    funnel = config.funnel.model_copy(update={"global_release": once})
    config = config.model_copy(update={"funnel": funnel})
    models = random_models(config, rng)
    queries = [random_query(config.features, config.funnel.items, rng) for _ in range(3)]
    queries[0].indices["item"][0, 0] = 10**6  # beyond its table
    want = [Counter(), Counter()]
    for query in queries:
        trace = Trace()
        rank_query(config, models, query, trace=trace)
        for token in trace.tokens:
            for position in token.positions.tolist():
                for table in config.features.tables:
                    bags = query.indices[table.name]
                    bag = bags[position] if table.scope == "item" else bags
                    for row in np.ravel(bag).tolist():
                        want[token.stage][table.name, row] += row < table.rows
    for stage, counts in enumerate(accesses(config, models, queries)):
        assert set(counts) == {table.name for table in config.features.tables}
        for name, rows in counts.items():
            assert len(rows) <= next(t.rows for t in config.features.tables if t.name == name)
            for row, count in enumerate(rows.tolist()):
                assert want[stage][name, row] == count
            assert sum(n for key, n in want[stage].items() if key[0] == name) == rows.sum()


def test_a_stage_without_accesses(rng):
    """Empty slots are no accesses; a table that nobody reads has none."""
    config = workload()
    query = random_query(config.features, config.funnel.items, rng)
    query.indices["tags"][:] = config.features.tables[2].empty_index
    models = random_models(config, rng)
    assert accesses(config, models, [query])[0]["tags"].tolist() == [0]

"""Sub-batch plans: what is released in all, and no more at once than the bound says."""

from hypothesis import given
from hypothesis import strategies as st

from sw_model.planner import largest_sub_batches, plan, share


def test_worked_example():
    """Ten items in fours, five of them to the next stage, three served."""
    steps = plan(10, 4, [5, 3])
    assert [(s.base, s.items, s.count, s.last) for s in steps if s.stage == 0] == [
        (0, 4, 2, False),
        (4, 4, 2, False),
        (8, 2, 1, True),
    ]
    assert [(s.items, s.emit, s.count) for s in steps if s.stage == 1] == [
        (2, False, 0),
        (2, False, 0),
        (1, True, 3),
    ]


@st.composite
def funnels(draw):
    items = draw(st.integers(1, 400))
    keep = [draw(st.integers(1, items))]
    for _ in range(draw(st.integers(0, 3))):
        keep.append(draw(st.integers(1, keep[-1])))
    once = draw(st.sets(st.integers(0, len(keep) - 1)))
    return items, draw(st.integers(1, 500)), keep, once


@given(funnels())
def test_properties(funnel):
    items, sub_batch, keep, once = funnel
    steps = plan(items, sub_batch, keep, once)
    bounds = largest_sub_batches(items, sub_batch, keep)
    for stage, total in enumerate([items, *keep[:-1]]):
        mine = [s for s in steps if s.stage == stage]
        assert sum(s.items for s in mine) == total
        assert [s.last for s in mine] == [False] * (len(mine) - 1) + [True]
        assert max(s.items for s in mine) <= bounds[stage]
        assert sum(s.count for s in mine) == keep[stage]
        if stage + 1 < len(keep) and stage not in once:
            assert all(s.emit for s in mine)
            released = 0
            taken = 0
            for s in mine:
                taken += s.items
                released += s.count
                assert released == share(keep[stage], taken, total)
                assert s.count <= taken
        else:
            assert [s.emit for s in mine] == [s.last for s in mine]
            assert mine[-1].candidates == total
            # All of this stage comes before anything of those behind it.
            assert steps.index(mine[-1]) < min(
                (i for i, s in enumerate(steps) if s.stage > stage), default=len(steps)
            )

"""How tokens are best given to groups: policies of the dispatcher, by cycle model.

Settings and funnel are those of ``rpaccel bench array``, where groups take any stage's tokens.

    python -m benchmarks.dispatch
"""

from rpaccel.bench_array import shared
from rpaccel.bench_groups import SETTINGS
from sw_model.dispatch_cycles import DispatchCycles


class FewestTokens(DispatchCycles):
    """The group that has the fewest tokens."""

    def done(self, stage, group, cycle):
        return self.waiting(group, cycle)


class First(DispatchCycles):
    """The first group with a free token buffer."""

    def done(self, stage, group, cycle):
        return group


POLICIES = {"done first": DispatchCycles, "fewest tokens": FewestTokens, "first": First}


def main():
    print("| setting | group | sub-batches | cycles a query | utilisation | alone |")
    print("|---|---|---|---|---|---|")
    for name in SETTINGS:
        if name.endswith("any stage"):
            for policy, model in POLICIES.items():
                row = shared(name, model)
                print(
                    f"| {name} | {policy} | {row['sub_batches']} | {row['cycles']:,.0f} "
                    f"| {row['utilisation']:.1%} | {row['latency']:,} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

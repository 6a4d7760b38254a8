"""A configuration, models and an image, with the golden device to run them."""

from rpaccel.compiler import compile_image
from rpaccel.driver import Device
from rpaccel.registers import REGISTERS
from sw_model.device import GoldenTransport
from sw_model.funnel import rank
from sw_model.random_models import random_models, random_query
from tests.workloads import workload


class World:
    """A configuration with models, image and a golden device."""

    def __init__(self, rng, shuffle=None, host_bytes=1 << 20, **options):
        self.rng = rng
        self.config = workload(**options)
        self.models = random_models(self.config, rng)
        self.image = compile_image(self.config, self.models)
        self.transport = GoldenTransport(
            self.config, self.models, host_bytes=host_bytes, shuffle=shuffle
        )

    def device(self):
        return Device(self.transport, self.config, self.image)

    def query(self, items=40):
        return random_query(self.config.features, items, self.rng)

    def check(self, query, handle, keep=(20, 8), sub_batch=14, **stages):
        golden = rank(
            self.models, self.config.features, query, keep=keep, sub_batch=sub_batch, **stages
        )
        got = handle.result()
        assert got.positions.tolist() == golden.positions.tolist()
        assert got.scores.tolist() == golden.scores.tolist()


class Changed(GoldenTransport):
    """A golden device some of whose registers read otherwise."""

    changes: dict[str, int] = {}
    closed = 0

    def read32(self, address):
        for name, value in self.changes.items():
            if address == REGISTERS[name].address:
                return value
        return super().read32(address)

    def close(self):
        self.closed += 1

"""What the memories of a group hold: programs, weights and parameters of its models."""

from rpaccel.image_layout import ENTRY, PASS, Target
from rpaccel.space import Space
from rpaccel.tiling import passes


class Memories:
    """The memories of a group: programs of a model for each stage that it serves.

    They are for the shape numbered ``uses[stage]``, and are said to take ``costs[stage]`` cycles.
    """

    def __init__(self, machine, group, models, uses, costs, slices=()):
        self.hardware, self.models, self.costs = machine, models, costs
        self.stages = machine.groups[group].stages
        geometry = machine.geometry(group)
        self.width = geometry.weight_tiles * machine.tile_cols
        self.shapes = {stage: geometry.shapes[uses[stage]] for stage in self.stages}
        self.spaces, self.programs, self.starts = {}, {}, {}
        self.program, self.weights, self.params = [], [], []
        words = machine.activation_rows // machine.accumulator_depth
        for stage in self.stages:
            model, shape = models[stage], self.shapes[stage]
            dense = model.bottom[0].weights.shape[1] if model.bottom else 0
            unit = machine.dot_shape(stage) if model.dot else None
            space = Space.plan(shape, model, dense, words, slices=slices, dot=unit)
            self.spaces[stage] = space
            self.starts[stage] = len(self.program)
            for layer in passes(shape, space):
                for tile in layer:
                    self._add(tile)
            self.program[-1]["last"] = 1
            self.programs[stage] = self.program[self.starts[stage] :]

    def _add(self, tile):
        """Append a pass, its weights anywhere in words that it has for itself."""
        size = tile.weights.shape[1]
        place = len(self.program) % (self.width // size)
        command = {**tile.command, "weights": len(self.weights), "tile": place, "params": 0}
        self.weights += [
            (bytes(size * place) + w.tobytes()).ljust(self.width, b"\x55") for w in tile.weights
        ]
        if tile.params is not None:
            command["params"] = len(self.params)
            self.params += [word.tobytes() for word in tile.params]
        self.program.append(command)

    def words(self):
        """Contents of the group's memories."""
        return {
            Target.ENTRIES: [self._entry(stage) for stage in self.stages],
            Target.PROGRAM: [PASS.pack(**command) for command in self.program],
            Target.WEIGHTS: self.weights,
            Target.PARAMS: self.params,
        }

    def _entry(self, stage):
        model = self.models[stage]
        return ENTRY.pack(
            program=self.starts[stage],
            form=self.shapes[stage].index,
            words=self.spaces[stage].words,
            cycles=self.costs[stage],
            dimension=model.tables[0].rows.shape[1] if model.dot else 0,
            bottom=bool(model.dot and model.bottom),
        )

"""Images against the golden model, by an interpreter of their bytes."""

from rpaccel.features import pack
from sw_model.funnel import score_items
from sw_model.random_models import random_query
from tests.image_interpreter import LoadedImage, StageRun


def check_image(config, models, image, rng, *, items=3, stages=None):
    """Run items through an image's bytes and compare with the golden model."""
    memory = bytes(image.address) + image.data
    loaded = LoadedImage(config.hardware, memory, image.address, image.generated)
    assert loaded.header["image_id"] == image.image_id != 0
    features = config.features
    for stage, model in enumerate(models):
        entry = loaded.stage(stage)
        assert entry["query_bytes"] == features.query_bytes
        assert entry["item_bytes"] == features.item_bytes
        assert entry["max_items"] == image.stages[stage].max_items
        count = min(items, entry["max_items"])
        query = random_query(features, count, rng)
        data = pack(features, query)
        start = features.query_bytes
        records = [
            data[start + i * features.item_bytes : start + (i + 1) * features.item_bytes]
            for i in range(count)
        ]
        golden = score_items(model, features, query).logits
        macs = sum(layer.weights.size for layer in [*model.bottom, *model.top])
        macs += len(model.product.mantissa) if model.product else 0
        for program in image.stages[stage].programs:
            run = StageRun(loaded, stage, program.group, count, rng)
            run.gather(data[:start], records)
            assert run.run().tolist() == golden.tolist()
            assert run.useful == macs, "rows x cols of the passes are not the model's MACs"
            predicted = loaded.entry(stage, program.group)["cycles"]
            assert predicted == min(program.cycles, 65535)

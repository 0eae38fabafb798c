"""Edge decoders: sizes as promised, and the whole chain to pixels."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import Call
from tests.bench.edge_search.variants import VARIANTS
from tests.bench.time_to_quality.points import POINTS
from torch import Tensor

from inr_export import export
from inr_runtime import open_video
from inr_runtime.backends import open_backend
from inr_runtime.int8plan import plan_int8
from inr_runtime.lower import TARGETS, lower
from inr_runtime.units import shifted_parameters
from inr_train import Clip, fit
from inr_train.bits import Bits
from inr_train.graph_runner import run_graph
from inr_train.models import Edge, EdgeConfig, count_macs, count_parameters, meta_model
from inr_train.models.edge import GRID_LIMIT, Square
from inr_train.presets import PRESETS
from inr_train.quantization import QuantizedModel, quantize_weights
from inr_train.ranges import SHRINK, best_range, measure_ranges
from inr_train.trace import trace

SMALL = EdgeConfig(24, 40, 6, (16, 16), (1, 2), (3, 6), (4, 2), (1, 4))
MOST = {"edge-5": 600_000, "edge-10": 1_000_000, "edge-20": 1_600_000}


@pytest.mark.parametrize("size", [(720, 1280), (180, 320), (1080, 1920), (90, 160)])
def test_sizes_are_what_the_names_say(size: tuple[int, int]) -> None:
    for name, most in MOST.items():
        model = meta_model("edge", PRESETS[name].config(*size, 132))
        kmac = count_macs(model) / 1e3 / (size[0] * size[1])
        assert kmac == pytest.approx(int(name.split("-")[1]), rel=0.08)
        assert count_parameters(model) <= most


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"activation": "silu"},
        {"activation": "square"},
        {"activation": "square", "modulation": 4},
        {"activation": "square", "limited": True},
        {"activation": "square", "limited": True, "modulation": 4},
        {"activation": "square", "block": "depthwise"},
        {"block": "depthwise"},
        {"modulation": 4},
        {"kernel": 5, "widths": (16,), "depths": (1,)},
        {"height": 23, "width": 37, "frames": 1},
    ],
)
def test_every_variant_draws_frames_of_the_right_size_and_traces(change: dict[str, object]) -> None:
    config = dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
    model = Edge(config)
    frame = model([0.0, config.frames - 1.0])
    assert frame.shape == (2, 3, config.height, config.width)
    assert torch.isfinite(frame).all()
    assert trace(model).graph.macs == pytest.approx(count_macs(model), rel=0.01)


@pytest.mark.parametrize("preset", ["edge-5", "edge-10", "edge-20"])
def test_a_clip_that_is_turned_has_its_grids_turned(preset: str) -> None:
    """High frames had a third of the numbers in their grids."""
    wide, high = (PRESETS[preset].config(*size, 132) for size in ((720, 1280), (1280, 720)))
    for grid in range(len(wide.grid_rows)):
        slices, channels, rows, columns = wide.grid_shape(grid)
        turned = high.grid_shape(grid)
        assert turned[:2] == (slices, channels)
        assert (abs(turned[2] - columns) <= 1, abs(turned[3] - rows) <= 1) == (True, True)
    assert high.entering == wide.entering
    assert high.widths == wide.widths


def test_convolutions_begin_as_a_residual_connection() -> None:
    convolution = Edge(SMALL).stages[1][0]  # type: ignore[index]
    x = torch.randn(1, 16, 8, 8)
    assert torch.nn.functional.cosine_similarity(convolution(x).flatten(), x.flatten(), dim=0) > 0.8


def floats(config: EdgeConfig) -> Counter[str]:
    """The operators of a decoder that do not run on integers."""
    graph = trace(Edge(config)).graph
    plan = plan_int8(graph)
    return Counter(node.op for i, node in enumerate(graph.nodes) if i not in plan.int8)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("activation", ["square", "leaky_relu", "silu", "bounded_silu"])
def test_all_but_the_grids_entrance_runs_on_integers(activation: str, limited: bool) -> None:
    """The float nodes are those that take the small grids to their places."""
    found = floats(dataclasses.replace(SMALL, activation=activation, limited=limited))
    assert found.keys() <= {"Resize", "Concat", "Conv"}
    assert found["Conv"] <= 2


@pytest.mark.parametrize("activation", ["square", "bounded_silu"])
def test_no_float_stands_between_the_convolutions_of_a_stage_without_grids(activation: str) -> None:
    """Limits behind a pixel shuffle were in float once, on the largest maps of edge-10 at 720p."""
    config = EdgeConfig(48, 80, 6, (16, 16, 16), (1, 1, 2), (3,), (4,), (1,), activation=activation)
    assert [len(grids) for grids in config.entering] == [1, 0, 0]
    assert floats(config).keys() <= {"Resize", "Concat", "Conv"}


@pytest.mark.parametrize("size", [(720, 1280), (360, 640), (180, 320), (1080, 1920)])
@pytest.mark.parametrize("preset", MOST)
def test_the_presets_have_no_float_behind_their_entrances(preset: str, size: tuple[int, int]) -> None:
    """The second grid's small convolution was float at 720p once, and with it the sum it enters and all up to the next
    convolution.
    """
    found = floats(PRESETS[preset].config(*size, 132))
    assert found.keys() <= {"Resize", "Concat", "Conv"}
    assert found["Conv"] <= 1


def test_squares_begin_as_a_line_with_a_bend() -> None:
    """Around a half the slope is 1, where nothing is added the result is 0, beyond the limits nothing changes."""
    x = torch.tensor([0.5, 0.51, 2.0, -2.0, 0.0])
    assert torch.allclose(Square()(x), torch.tensor([0.0, 0.0101, 0.75, 0.0, -0.25]))
    model = Edge(dataclasses.replace(SMALL, activation="square"))
    convolution = model.stages[1][0]  # type: ignore[index]
    assert convolution.bias.mean().item() == Square.MIDDLE
    with torch.no_grad():
        for name in model.grids:
            model.get_parameter(name).zero_()
        assert 0.3 < float(model([0.0]).mean()) < 0.7


def test_what_is_limited_stays_so_in_training_and_begins_as_before(tiny_clip: Clip) -> None:
    """Both parts of a sum share the half that squares begin with; with other activations nothing is limited."""
    free, limited = (Edge(dataclasses.replace(SMALL, activation="square", limited=x)) for x in (False, True))
    assert free.enter["1"].bias.mean().item() == pytest.approx(0.5, abs=0.1)
    assert limited.enter["1"].bias.mean().item() == pytest.approx(0.25, abs=0.1)
    assert limited.ups[0].bias.mean().item() == pytest.approx(0.25, abs=0.1)
    assert not dataclasses.replace(SMALL, activation="silu", limited=True).limited
    recipe = dataclasses.replace(PRESETS["edge-5"].recipe, epochs=3, learning_rate=1.0)
    trained = fit(tiny_clip, "edge-5", recipe=recipe, quantize="none").weights
    assert max(float(v.abs().max()) for k, v in trained.items() if k.startswith("grid")) == GRID_LIMIT


@pytest.mark.parametrize("bias", [-3.0, 5.0])
@pytest.mark.parametrize("places", [("enter.0",), ("enter.1", "ups.0"), ("stages.1.0",)])
def test_a_channel_that_left_the_limits_is_learned_again(places: tuple[str, ...], bias: float) -> None:
    """Half way through a run of an hour most channels of the first stage were the same everywhere, and it ended below a
    run of a quarter of an hour.
    """
    torch.manual_seed(0)
    model = Edge(dataclasses.replace(SMALL, activation="square", limited=True))
    convolutions = [model.get_submodule(name) for name in places]
    with torch.no_grad():
        for convolution in convolutions:
            convolution.weight.zero_()  # what decay leaves of weights that are not learned
            convolution.bias.fill_(bias)

    def slopes() -> Tensor:
        model.zero_grad()
        model([1.0]).square().sum().backward()
        return torch.cat([convolution.bias.grad.abs() for convolution in convolutions])

    assert slopes().max() == 0
    model.confine()
    assert slopes().min() > 0


def test_a_limited_sum_saturates_in_both_parts() -> None:
    """A large part is cut before it meets the other, in the graph that ships too."""
    model = Edge(dataclasses.replace(SMALL, activation="square", limited=True)).eval()
    plan = plan_int8(trace(model).graph)
    assert list(plan.clips.values()) == [Square.LIMITS] * (1 + 1 + 2 + 1 + 2)
    before = model([1.0])
    with torch.no_grad():
        model.enter["1"].bias.fill_(50.0)
        assert torch.isfinite(before).all()
        high = model([1.0])
        model.enter["1"].bias.fill_(90.0)
        assert torch.equal(model([1.0]), high)


@pytest.mark.parametrize("limited", [False, True])
def test_int8_engine_gives_what_training_imitates_of_squares(limited: bool) -> None:
    """Step for step but for ties, though the engine takes a quarter by a zero point, and where ranges are strange."""
    torch.manual_seed(3)
    model = Edge(dataclasses.replace(SMALL, activation="square", limited=limited)).eval()
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    tensors = [torch.from_numpy(w.dequantize()) for w in weights]
    measured = measure_ranges(traced.graph, tensors, [model.sample([t]) for t in range(6)])
    squares = plan_int8(traced.graph).shifted
    assert set(squares.values()) == {0.25}
    for ranges in (measured, {e: (r[0], 0.01 if e in squares else r[1]) for e, r in measured.items()}):
        imitation = QuantizedModel(model, traced, Bits(8, 10), ranges)
        backend = open_backend(lower(traced.graph, weights, TARGETS["cpu-int8"], ranges))
        for t in range(6):
            with torch.no_grad():
                inputs, frame = imitation.sample([t]), imitation([t])[0].clamp(0, 1)
            found = backend.run({f"x{i}": x.numpy() for i, x in enumerate(inputs)})[0].astype(int)
            apart = np.abs(found - torch.round(frame * 255).permute(1, 2, 0).numpy().astype(int))
            assert apart.max() <= 2
            assert (apart > 0).mean() < 0.02
        backend.close()


def test_a_file_without_ranges_of_a_limited_entrance_keeps_it_in_float() -> None:
    """As files that were written before such entrances ran on integers."""
    graph = trace(Edge(PRESETS["edge-10"].config(720, 1280, 4))).graph
    whole = plan_int8(graph)
    entrance = next(i for i, n in enumerate(graph.nodes) if n.op == "Conv" and n.inputs[0] == "x3")
    limited = next(n.output for n in graph.nodes if n.inputs[0] == graph.nodes[entrance].output)
    assert entrance in whole.int8
    assert limited in whole.clips
    before = plan_int8(graph, [edge for edge in whole.ranged if edge not in ("x3", limited)])
    assert entrance not in before.int8
    assert plan_int8(graph, before.ranged) == before
    assert before.int8 < whole.int8


def test_ranges_of_squares_are_judged_by_their_own_steps() -> None:
    """A quarter is a whole number of them, so no candidate's steps are those of an ordinary range."""
    squares = np.minimum(np.random.default_rng(0).normal(0.2, 0.3, 50_000) ** 2, 1.0)
    counts, edges = np.histogram(squares, 2048)
    middles = (edges[1:] + edges[:-1]) / 2

    def error(high: float) -> float:
        scale, _ = shifted_parameters(high, 0.25)
        return float(counts @ np.square(np.clip(np.rint(middles / scale), 0, 255) * scale - middles))

    _, found = best_range(counts.astype(float), (float(edges[0]), float(edges[-1])), shift=0.25)
    assert error(found) <= min(error(high) for high in SHRINK * edges[-1])


def test_squares_at_the_limit_are_not_all_taken_for_less() -> None:
    """64 steps of a quarter's 64th part end at 0.996: a limit that many reach was lost there, in every layer alike."""
    counts = np.full(2048, 100.0)
    counts[-1] = 10_000
    scale, _ = shifted_parameters(best_range(counts, (0.0, 1.0), shift=0.25)[1], 0.25)
    assert 1.0 <= 255 * scale < 1.02


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("target", ["cuda-fp16", "trt-fp16", "trt-int8"])
def test_graphs_for_gpus_are_whole_and_near_the_model(target: str, limited: bool) -> None:
    """What those engines are given is valid ONNX; computed on the CPU it is a few steps from float32."""
    torch.manual_seed(5)
    model = Edge(dataclasses.replace(SMALL, activation="square", limited=limited)).eval()
    traced = trace(model)
    weights = quantize_weights(model, traced, Bits(8, 10))
    inputs = model.sample([2.5])
    tensors = [torch.from_numpy(w.dequantize()) for w in weights]
    ranges = measure_ranges(traced.graph, tensors, [model.sample([t]) for t in range(6)])
    embedded = lower(traced.graph, weights, TARGETS[target], ranges).embedded()
    onnx.checker.check_model(embedded, full_check=True)
    session = onnxruntime.InferenceSession(embedded.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {f"x{i}": x.detach().numpy() for i, x in enumerate(inputs)})
    with torch.no_grad():
        frame = run_graph(traced.graph, inputs, tensors)[0].clamp(0, 1)
    assert np.abs(found[0].astype(int) - torch.round(frame * 255).permute(1, 2, 0).numpy()).max() <= 3


def test_train_export_play(video: Path, call: Call, tmp_path: Path) -> None:
    code, out, words = call("inr-train", video, "-o", "m.pt", "--preset", "edge-5", "--epochs", 8, "--json")
    assert code == 0, words
    trained = json.loads(out)
    assert trained["recipe"]["optimizer"] == "muon"
    assert trained["psnr_float_db"] - trained["psnr_db"] < 0.5
    code, out, words = call("inr-export", "m.pt", "--json")
    assert code == 0, words
    with open_video(tmp_path / "m.nvb") as played:
        assert played.target.name == "cpu-int8"
        frame = played[0].astype(float)
        assert frame.shape == (33, 47, 3)
        assert np.abs(played.at(0.02).pixels.astype(float) - frame).mean() < np.abs(frame - 128).mean()


def test_grids_blend_between_frames(tiny_clip: Clip, tmp_path: Path) -> None:
    recipe = dataclasses.replace(PRESETS["edge-5"].recipe, epochs=10)
    export(fit(tiny_clip, "edge-5", recipe=recipe, config={"widths": (16,), "depths": (1,)}), tmp_path / "m.nvb")
    with open_video(tmp_path / "m.nvb", target="cpu-fp32") as played:
        first, between, second = (played.at(t / 25, interpolate=True).pixels.astype(int) for t in (0, 0.5, 1))
    assert (between != first).any()
    assert (between != second).any()


@pytest.mark.parametrize(
    "change",
    [
        {"widths": (16,)},
        {"grid_rows": (9,)},
        {"grid_rows": (12, 12), "widths": (8, 8)},
        {"kernel": 4},
        {"activation": "magic"},
        {"block": "magic"},
        {"frames": 0},
        {"shuffle": 99},
        {"depths": (1, 999)},
    ],
)
def test_contradictions_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".{10}"):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]


def test_what_the_benches_compare_can_be_built() -> None:
    """Variants of the search and points of the time-to-quality curves name fields and presets that exist."""
    base = PRESETS["edge-10"]
    for variant in VARIANTS:
        meta_model("edge", dataclasses.replace(base.config(180, 320, 132), **variant.config))
        dataclasses.replace(base.recipe, **variant.recipe)
    assert {p.preset for p in POINTS} <= set(PRESETS)
    assert len({p.name for p in POINTS}) == len(POINTS)

"""The goals table, judged on made-up results."""

from __future__ import annotations

from typing import Any

from benchmark.goals import Verdict, judge
from benchmark.results import Report, Result


def verdict(what: str, *results: Result, device_type: str = "cpu", against: str = "") -> Verdict:
    found = [
        v
        for v in judge(Report({"device type": device_type}, results))
        if what in v.goal.what and against in v.goal.against
    ]
    assert len(found) == 1, [v.goal.what for v in found]
    return found[0]


def encode(model: str, precision: str, ours: float, theirs: float, **figures: Any) -> Result:
    case = {"model": model, "precision": precision, "weights": "random"}
    named = {name.replace("_", " "): value for name, value in figures.items()}
    return Result("encode", case, (ours,), (theirs,), named)


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = verdict("CPU encode ViT-B, bfloat16")
    assert (found.figure, found.is_met) == (None, None)
    assert found.row()[2:] == ("at least 5x", "not measured", "")


def test_a_ratio_must_reach_its_goal() -> None:
    met = verdict("CPU encode ViT-B, bfloat16", encode("vit_b", "bfloat16", 2.0, 10.0))
    missed = verdict("CPU encode ViT-B, bfloat16", encode("vit_b", "bfloat16", 2.0, 9.0))
    assert met.row()[2:] == ("at least 5x", "5x", "yes")
    assert missed.row()[2:] == ("at least 5x", "4.5x", "no")


def test_the_better_of_compiled_and_not_counts() -> None:
    results = [encode("vit_b", "bfloat16", 2.0, 10.0), encode("vit_b", "bfloat16, compiled", 1.0, 10.0)]
    assert verdict("CPU encode ViT-B, bfloat16", *results).figure == 10.0


def test_speed_in_float32_counts_only_where_the_embedding_is_equal() -> None:
    equal = encode("vit_b", "float32", 1.0, 2.0, embedding_differs_by=9e-5)
    other = encode("vit_b", "float32", 1.0, 2.0, embedding_differs_by=2e-4)
    assert verdict("CPU encode ViT-B, float32", equal).is_met is True
    assert verdict("CPU encode ViT-B, float32", other).is_met is False


def test_frames_of_sam_tiny() -> None:
    found = verdict("sam_tiny encode", encode("sam_tiny", "float32", 0.08, 0.1))
    assert found.row()[3:] == ("12.5 frames/s", "yes")


def test_prompts_are_judged_at_64() -> None:
    def prompts(count: str, ours: float) -> Result:
        case = {"model": "vit_b", "precision": "float32", "prompts": count}
        return Result("prompts", case, (ours,), (8.0,))

    assert (
        verdict("CPU 64 mixed prompts, ViT-B, float32", prompts("64", 2.0), prompts("128", 1.0)).figure == 4
    )


def test_what_the_node_adds_is_the_sum_of_its_stages() -> None:
    def node(camera: str, **figures: float) -> Result:
        named = {f"{name} (ms)": value for name, value in figures.items()}
        case = {"model": "sam_tiny", "precision": "float32", "image": "1280 x 720", "camera": camera}
        return Result("node", case, (0.05,), (), named)

    results = [node("30 Hz", read=1.5, encode=60.0, publish=4.0), node("still", decode=20.0, publish=1.25)]
    assert verdict("the running node", *results).row()[3:] == ("2.75 ms", "yes")


def test_the_worst_quality_counts() -> None:
    results = [encode(m, "float32", 1, 1, logits_differ_by=d) for m, d in (("vit_b", 2e-3), ("vit_h", 1e-4))]
    assert verdict("low-res logits", *results).row()[3:] == ("0.002", "no")


def test_a_gpu_has_other_goals_than_a_cpu() -> None:
    result = encode("vit_h", "bfloat16", 0.0105, 0.376, times_the_floor=1.4)
    assert verdict("GPU encode ViT-H", result, device_type="cuda").is_met is True
    on_cpu = {v.goal.what for v in judge(Report({"device type": "cpu"}, ()))}
    on_gpu = {v.goal.what for v in judge(Report({"device type": "cuda"}, ()))}
    assert not any(what.startswith("GPU") for what in on_cpu)
    assert not any(what.startswith("CPU") for what in on_gpu)

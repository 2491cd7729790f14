"""The goals, what was measured for each, and whether it is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.images import HD
from benchmark.results import Report, Result, rounded, select, spread

LOGITS_TOLERANCE = 1e-3
EMBEDDING_TOLERANCE = 1e-4

Measure = Callable[[Sequence[Result]], "float | None"]


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Attributes:
        what: is measured.
        against: what it is compared with.
        limit: the goal.
        unit: of the limit and of what is measured.
        at_least: whether the limit is the least that will do, or the most.
        device_type: cpu or cuda, where the goal is for one of them only.
        measure: the figure of all results, None if it was not measured.
    """

    what: str
    against: str
    limit: float
    unit: str
    at_least: bool
    device_type: str
    measure: Measure

    def is_met_by(self, figure: float) -> bool:
        """Whether a figure will do."""
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True)
class Verdict:
    """A goal and the figure measured for it; None if it was not measured."""

    goal: Goal
    figure: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether it is met; None if it was not measured."""
        return None if self.figure is None else self.goal.is_met_by(self.figure)

    def row(self) -> tuple[str, str, str, str, str]:
        """What, against, goal, measured, met: as the table shows them."""
        goal, word = self.goal, "at least" if self.goal.at_least else "at most"
        measured = "not measured" if self.figure is None else f"{rounded(self.figure, 3):g}{goal.unit}"
        met = {None: "", True: "yes", False: "no"}[self.is_met]
        return goal.what, goal.against, f"{word} {goal.limit:g}{goal.unit}", measured, met


def judge(report: Report) -> list[Verdict]:
    """Every goal of the kind of device that the results are from."""
    device_type = report.machine["device type"]
    return [
        Verdict(goal, goal.measure(report.results)) for goal in GOALS if goal.device_type in ("", device_type)
    ]


def ratio(part: str, **case: str) -> Measure:
    """The best ratio of a part's results of a case, compiled or not."""

    def measure(results: Sequence[Result]) -> float | None:
        found = [result.ratio for result in _in_precision(results, part, case)]
        return max((ratio for ratio in found if ratio is not None), default=None)

    return measure


def exact_ratio(model: str) -> Measure:
    """The ratio of encoding in float32; 0 where the embedding differs by more than EMBEDDING_TOLERANCE."""

    def measure(results: Sequence[Result]) -> float | None:
        difference = worst("encode", "embedding differs by", model=model, precision="float32")(results)
        if difference is None or difference <= EMBEDDING_TOLERANCE:
            return ratio("encode", model=model, precision="float32")(results)
        return 0.0

    return measure


def fastest_ms(part: str, **case: str) -> Measure:
    """The shortest median of a part's results of a case, in milliseconds."""

    def measure(results: Sequence[Result]) -> float | None:
        found = [spread(r.ours_sec).median for r in _in_precision(results, part, case) if r.ours_sec]
        return 1000 * min(found) if found else None

    return measure


def rate(part: str, **case: str) -> Measure:
    """The highest rate of a part's results of a case, in 1/s."""

    def measure(results: Sequence[Result]) -> float | None:
        fastest = fastest_ms(part, **case)(results)
        return 1000 / fastest if fastest else None

    return measure


def worst(part: str, figure: str, **case: str) -> Measure:
    """The largest of a figure over a part's results of a case."""

    def measure(results: Sequence[Result]) -> float | None:
        return max(_figures(results, part, figure, case), default=None)

    return measure


def least(part: str, figure: str, **case: str) -> Measure:
    """The smallest of a figure over a part's results of a case."""

    def measure(results: Sequence[Result]) -> float | None:
        return min(_figures(results, part, figure, case), default=None)

    return measure


def sum_of(part: str, figures: Sequence[str], **case: str) -> Measure:
    """Several figures added, the smallest of each; those that no result has count nothing."""

    def measure(results: Sequence[Result]) -> float | None:
        found = [least(part, figure, **case)(results) for figure in figures]
        measured = [figure for figure in found if figure is not None]
        return sum(measured) if measured else None

    return measure


def _figures(results: Sequence[Result], part: str, figure: str, case: dict[str, str]) -> list[float]:
    return [r.figures[figure] for r in _in_precision(results, part, case) if figure in r.figures]


def _in_precision(results: Sequence[Result], part: str, case: dict[str, str]) -> list[Result]:
    """Select by a case whose precision may have been compiled."""
    others = {name: value for name, value in case.items() if name != "precision"}
    wanted = case.get("precision", "")
    return [r for r in select(results, part, **others) if r.case.get("precision", "").startswith(wanted)]


SET_IMAGE = "`SamPredictor.set_image` in float32"
MOBILE_SET_IMAGE = "`set_image` of MobileSAM's own `SamPredictor`"
PREDICT = "`SamPredictor.predict`"
GENERATOR = "`SamAutomaticMaskGenerator`"
LOOP = "a loop of `predict`"
FRAME_IN_AND_OUT = "a frame in, its masks out, 1 object, candidates"
NODE_STAGES = ("take (ms)", "read (ms)", "publish (ms)")

GOALS = (
    Goal(
        "CPU encode ViT-B, bfloat16", SET_IMAGE, 5, "x", True, "cpu",
        ratio("encode", model="vit_b", precision="bfloat16"),
    ),
    Goal(
        f"CPU encode ViT-B, float32, equal to {EMBEDDING_TOLERANCE:g}", SET_IMAGE, 2, "x", True, "cpu",
        exact_ratio("vit_b"),
    ),
    Goal(
        "CPU one click to a 720p mask, ViT-B", PREDICT, 3, "x", True, "cpu",
        ratio("click", model="vit_b", masks="the best"),
    ),
    Goal(
        "CPU 64 mixed prompts, ViT-B, bfloat16", LOOP, 6, "x", True, "cpu",
        ratio("prompts", model="vit_b", precision="bfloat16", prompts="64"),
    ),
    Goal(
        "CPU 64 mixed prompts, ViT-B, float32", LOOP, 4, "x", True, "cpu",
        ratio("prompts", model="vit_b", precision="float32", prompts="64"),
    ),
    Goal(
        "CPU everything from 256 points, ViT-B, float32", GENERATOR, 4, "x", True, "cpu",
        ratio("everything", model="vit_b", precision="float32", points="all"),
    ),
    Goal(
        "CPU everything from 256 points, sam_tiny, float32", GENERATOR, 4, "x", True, "cpu",
        ratio("everything", model="sam_tiny", precision="float32", points="all"),
    ),
    Goal(
        "CPU everything from 256 points, sam_tiny", "", 1000, " ms", False, "cpu",
        fastest_ms("everything", model="sam_tiny", points="all"),
    ),
    Goal(
        f"CPU encode MobileSAM, float32, equal to {EMBEDDING_TOLERANCE:g}", MOBILE_SET_IMAGE, 1.5, "x", True,
        "cpu", exact_ratio("mobile_sam"),
    ),
    Goal(
        "CPU encode MobileSAM, bfloat16", MOBILE_SET_IMAGE, 3, "x", True, "cpu",
        ratio("encode", model="mobile_sam", precision="bfloat16"),
    ),
    Goal(
        "CPU pre-processing of 720p to 1024, float32", "PIL in `ResizeLongestSide`", 3, "x", True, "cpu",
        ratio("preprocess", precision="float32", image=HD, input="1024"),
    ),
    Goal(
        "pre-processing, float32: values that differ", "PIL in `ResizeLongestSide`", 0, "", False, "cpu",
        worst("preprocess", "values that differ", precision="float32"),
    ),
    Goal(
        "sam_tiny encode, CPU", "real time", 10, " frames/s", True, "cpu", rate("encode", model="sam_tiny"),
    ),
    Goal(
        "720p, 20 masks with depth to objects in space, one core", "", 15, " ms", False, "",
        fastest_ms("lifting", boxes="oriented boxes, camera's frame"),
    ),
    Goal(
        "720p message to image, and a clicked object's masks to messages", "", 3, " ms", False, "",
        fastest_ms("messages", image=HD, conversion=FRAME_IN_AND_OUT),
    ),
    Goal(
        "the same in the running node: take, read, publish", "", 3, " ms", False, "",
        sum_of("node", NODE_STAGES, model="sam_tiny", image=HD),
    ),
    Goal(
        "GPU encode ViT-B, bfloat16", "floor from the measured matrix rate", 2, "x", False, "cuda",
        least("encode", "times the floor", model="vit_b", precision="bfloat16"),
    ),
    Goal(
        "GPU encode ViT-H, bfloat16", "floor from the measured matrix rate", 1.4, "x", False, "cuda",
        least("encode", "times the floor", model="vit_h", precision="bfloat16"),
    ),
    Goal(
        "GPU one click to a 720p mask on the host, ViT-B", PREDICT, 8, "x", True, "cuda",
        ratio("click", model="vit_b", masks="the best"),
    ),
    Goal(
        "GPU one click to a 720p mask on the host, ViT-B", "", 1, " ms", False, "cuda",
        fastest_ms("click", model="vit_b", masks="the best"),
    ),
    Goal(
        "GPU 64 mixed prompts, ViT-B", LOOP, 20, "x", True, "cuda",
        ratio("prompts", model="vit_b", prompts="64"),
    ),
    Goal(
        "float32: largest difference of low-res logits", "upstream in float32", LOGITS_TOLERANCE,
        "", False, "",
        worst("encode", "logits differ by", precision="float32"),
    ),
    Goal(
        "bfloat16: mean mask IoU on generated scenes, sam_tiny", "float32", 0.99, "", True, "",
        least("encode", "mask IoU, scenes", model="sam_tiny", precision="bfloat16"),
    ),
    Goal(
        "bfloat16: mean mask IoU on photographs, sam_tiny", "float32", 0.99, "", True, "",
        least("encode", "mask IoU, photographs", model="sam_tiny", precision="bfloat16"),
    ),
)  # fmt: skip
"""The project's goals of speed and quality, in the order to print."""

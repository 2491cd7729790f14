"""Results as Markdown: the machine, the goals, and a table for each part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmark.goals import Verdict, judge
from benchmark.machine import pays
from benchmark.results import Report, Result, rounded, spread

PARTS = {
    "encode": (
        "Encode",
        "An image of 1280 x 720 to its embedding, against `SamPredictor.set_image` in float32 with the same "
        "weights. The floor is what the matrix products alone would take at the machine's measured rate. "
        "Embeddings and low-res logits are compared with upstream's in float32; masks, where the weights are "
        "trained, with those of this project's float32: *mask IoU* compares what both would publish, "
        "*same mask* forgives another choice among three.",
    ),
    "click": (
        "One click",
        "On an encoded image of 1280 x 720, to masks on the host, against `SamPredictor.predict`, which "
        "returns all three. The floor is what the decoder's matrix products on the image alone would take at "
        "the machine's measured rate, for one mask.",
    ),
    "prompts": (
        "Mixed prompts",
        "Points, several points, boxes, boxes with points, masks, on an encoded image of 1280 x 720, decoded "
        "together, against a loop of `SamPredictor.predict`. Beyond *prompts in the loop* its time is "
        "extrapolated.",
    ),
    "everything": (
        "Everything",
        "All that is found from a grid of 16 x 16 points on an encoded image of 1280 x 720, against "
        "`SamAutomaticMaskGenerator` with the same options, its predictor given the image beforehand: "
        "predicted IoU from 0.8, stability score from 0.9; with random weights those that let as many masks "
        "pass. A mask is the same where its IoU is above 0.99. *Points but those on small masks* is how the "
        "node asks.",
    ),
    "following": (
        "Following",
        "Objects carried to the next frame, of 1280 x 720, by tracking their points, against decoding them "
        "there by this project: *sam_ros* is what following adds, *other* what the answers cost in any case.",
    ),
    "remembering": (
        "Following by memory",
        "A frame of 1280 x 720 encoded, and each of so many objects found on it by what the model remembers "
        "of 7 frames, and remembered. The shares are of the parts by themselves, those of one object times "
        "the number of objects.",
    ),
    "preprocess": (
        "Pre-processing",
        "An image to the encoder's input, against PIL in `ResizeLongestSide.apply_image` and "
        "`Sam.preprocess`.",
    ),
    "breakdown": (
        "Where the time goes",
        "One call, by kind of operator, as torch's profiler sees it, which slows small operators down. "
        "Outside torch are Python, NumPy, OpenCV and PIL.",
    ),
    "lifting": (
        "Objects in space",
        "Masks and depth of 1280 x 720 to points and boxes of 20 objects on a rendered table, on one core, "
        "against the usual recipe: the whole image to points, those of each mask near its median depth, "
        "principal axes. Errors are the largest: of the centroid of what is visible, and of the sides of "
        "blocks and cans of 6 to 10 cm.",
    ),
    "messages": (
        "Messages",
        "Conversions without transport. The last rows of a size are all that the node does for a frame and "
        "its answers beside encoding, decoding and publishing.",
    ),
    "node": (
        "The node",
        "A process of its own, over DDS. The times are from a click to its mask in the process that clicks; "
        "the stages are medians of what the node reports on /diagnostics.",
    ),
    "idle": (
        "At rest",
        "The node as a process of its own with a camera of 1280 x 720 and 30 Hz, before anybody has clicked: "
        "its processor time, and the memory that it holds, torch included.",
    ),
    "jitter": (
        "Jitter",
        "How late each message of a publisher of 500 Hz is that shares the processor with the node, by the "
        "parameter `threads` (0 is torch's choice), and how many frames the node encodes meanwhile.",
    ),
}
"""Title and explanation of each part, in the order to print."""


def markdown(report: Report, name: str) -> str:
    """The whole report; the picture is expected beside it under the same name."""
    sections = [
        f"# {name}",
        machine_table(report),
        f"![Results]({name}.png)",
        "## Goals",
        goals_table(judge(report)),
        bfloat16_remark(report.machine),
        *(
            text
            for part in PARTS
            if any(result.part == part for result in report.results)
            for text in (f"## {PARTS[part][0]}", PARTS[part][1], part_table(report.results, part))
        ),
    ]
    return "\n\n".join(text for text in sections if text) + "\n"


def bfloat16_remark(machine: Mapping[str, object]) -> str:
    """Why rows of bfloat16 are missing or slow, on a machine where it does not pay."""
    if pays("bfloat16", machine):
        return ""
    return (
        "Matrix products in bfloat16 are slower than in float32 on this machine, see above: goals of speed "
        "in bfloat16 are out of its reach. The official models are then measured in it only if asked to."
    )


def machine_table(report: Report) -> str:
    """The machine's facts, and the most memory that was held."""
    facts = {fact: number(value) for fact, value in report.machine.items()}
    peaks = [result.peak_mb for result in report.results if result.peak_mb is not None]
    if peaks:
        facts["peak memory (MB)"] = number(max(peaks))
    return table(("machine", ""), facts.items())


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """The goals with what was measured."""
    return table(("what", "against", "goal", "measured", "met"), (verdict.row() for verdict in verdicts))


def part_table(results: Sequence[Result], part: str) -> str:
    """All results of a part."""
    found = [result for result in results if result.part == part]
    cases = tuple(dict.fromkeys(name for result in found for name in result.case))
    figures = tuple(dict.fromkeys(name for result in found for name in result.figures))
    is_compared = any(result.theirs_sec for result in found)
    times = ("sam_ros (ms)", *(("other (ms)", "ratio") if is_compared else ()))
    rows = [
        (
            *(result.case.get(name, "") for name in cases),
            *_times(result, is_compared),
            *(number(result.figures.get(name)) for name in figures),
        )
        for result in found
    ]
    return table((*cases, *times, *figures), rows)


def _times(result: Result, is_compared: bool) -> tuple[str, ...]:
    ours = milliseconds(result.ours_sec)
    if not is_compared:
        return (ours,)
    ratio = "" if result.ratio is None else f"{rounded(result.ratio, 3):g}x"
    return ours, milliseconds(result.theirs_sec), ratio


def milliseconds(seconds: Sequence[float]) -> str:
    """Median and interquartile range."""
    if not seconds:
        return ""
    found = spread(seconds)
    return f"{number(1000 * found.median)} (IQR {number(1000 * found.interquartile_range)})"


def number(value: object) -> str:
    """A figure to three significant digits, whole where it is large; anything else as it is."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{rounded(value, 3):g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)

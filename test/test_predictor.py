"""The predictor against upstream's own SamPredictor, with the same weights, for every kind of prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from parity import LARGEST_DIFFERENCE
from random_models import MINIATURE, SMALL, random_sam, save_random_sam, save_random_vit_b
from segment_anything import SamPredictor
from segment_anything.utils.amg import calculate_stability_score

from sam_ros import predictor as predictor_module
from sam_ros.core.grid import padded_grid
from sam_ros.errors import (
    DeviceError,
    DeviceMemoryError,
    InvalidImageError,
    InvalidPromptError,
    ModelOutputError,
    SamRosError,
)
from sam_ros.masks import Masks
from sam_ros.predictor import (
    CUDA_OUT_OF_MEMORY,
    DECODE_BATCH,
    Embedding,
    Predictor,
    is_fast,
    load_predictor,
)
from sam_ros.prompt import Prompt

TOLERANCE = 1e-3  # of low-res logits, from the contract

FOREGROUND = np.array([1])

SIZES_HW = {
    "landscape": (480, 640),
    "portrait": (640, 360),
    "tiny": (7, 11),
    "exact": (1024, 1024),
    "wide": (40, 1500),
}


def picture(size_hw: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: coloured rectangles and noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (*size_hw, 3), dtype=np.uint8)
    for _ in range(6):
        y, x = rng.integers(0, size_hw[0]), rng.integers(0, size_hw[1])
        h, w = max(1, size_hw[0] // 3), max(1, size_hw[1] // 3)
        image[y : y + h, x : x + w] += rng.integers(0, 190, 3, dtype=np.uint8)
    return image


def accelerator_error(message: str, code: int) -> torch.AcceleratorError:
    """What torch raises for a code of CUDA's."""
    error = torch.AcceleratorError(message)
    error.error_code = code  # type: ignore[attr-defined]
    return error


def click(x: float, y: float) -> Prompt:
    return Prompt(np.array([[x, y]]), FOREGROUND)


def prompts_for(size_hw: tuple[int, int], logits_side: int) -> dict[str, Prompt]:
    """One prompt of every kind, in coordinates of an image of that size."""
    h, w = size_hw
    points = np.array([[0.2 * w, 0.3 * h], [0.7 * w, 0.6 * h], [0.5, 0.25]])
    box = np.array([0.1 * w, 0.2 * h, 0.8 * w, 0.9 * h])
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 5, (logits_side, logits_side)).astype(np.float32)
    return {
        "point": Prompt(points[:1], FOREGROUND),
        "other point": Prompt(points[1:2], FOREGROUND),
        "background point": Prompt(points[:1], np.array([0])),
        "two points": Prompt(points[:2], np.array([1, 0])),
        "three points": Prompt(points, np.array([1, 0, 1])),
        "box": Prompt(box=box),
        "box with points": Prompt(points[:2], np.array([1, 0]), box),
        "logits": Prompt(low_res_logits=logits),
        "point with logits": Prompt(points[:1], FOREGROUND, low_res_logits=logits),
        "box with logits": Prompt(box=box, low_res_logits=-logits),
        "everything": Prompt(points, np.array([0, 1, 1]), box, logits),
    }


@dataclass
class Pair:
    """Our predictor and upstream's, with equal weights."""

    ours: Predictor
    upstream: SamPredictor

    def encode(self, image: npt.NDArray[np.uint8]) -> Embedding:
        self.upstream.set_image(image)
        return self.ours.encode(image)


def writable(array: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """A copy: torch warns of arrays that it could not write to."""
    return None if array is None else array.copy()


def upstream_answer(upstream: SamPredictor, prompt: Prompt, multimask: bool) -> Masks:
    """What SamPredictor.predict says, sorted best first."""
    full_size, predicted_iou, logits = upstream.predict(
        point_coords=writable(prompt.point_coords),
        point_labels=writable(prompt.point_labels),
        box=writable(prompt.box),
        mask_input=None if prompt.low_res_logits is None else writable(prompt.low_res_logits[None]),
        multimask_output=multimask,
        return_logits=True,
    )
    order = np.argsort(-predicted_iou, kind="stable")
    stability = calculate_stability_score(torch.as_tensor(full_size), 0.0, 1.0).nan_to_num(0.0)
    return Masks(full_size[order] > 0, predicted_iou[order], stability.numpy()[order], logits[order])


def assert_same(answer: Masks, expected: Masks) -> None:
    for name in ("low_res_logits", "predicted_iou"):
        difference = float(np.abs(getattr(answer, name) - getattr(expected, name)).max())
        LARGEST_DIFFERENCE[name] = max(difference, LARGEST_DIFFERENCE.get(name, 0.0))
    np.testing.assert_allclose(answer.low_res_logits, expected.low_res_logits, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(answer.predicted_iou, expected.predicted_iou, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(answer.stability_score, expected.stability_score, atol=2e-3, rtol=0)
    assert answer.masks.dtype == np.bool_ and answer.masks.shape == expected.masks.shape
    assert (answer.masks != expected.masks).mean() < 1e-4  # rounding at the threshold


@pytest.fixture(scope="module")
def small_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    oracle = SamPredictor(save_random_sam(SMALL, path))
    return Pair(load_predictor("sam_tiny", path), oracle)


@pytest.fixture(scope="module", params=SIZES_HW)
def encoded(request: pytest.FixtureRequest, small_pair: Pair) -> tuple[Pair, Embedding, tuple[int, int]]:
    size_hw = SIZES_HW[request.param]
    return small_pair, small_pair.encode(picture(size_hw)), size_hw


@pytest.fixture(scope="module")
def vit_b(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Embedding, tuple[int, int]]:
    """A full ViT-B with random weights, saved, loaded through the real code; one image encoded by both."""
    path = tmp_path_factory.mktemp("vit_b") / "vit_b.pth"
    oracle = SamPredictor(save_random_vit_b(path))
    pair = Pair(load_predictor("vit_b", path), oracle)
    path.unlink()
    return pair, pair.encode(picture((480, 640))), (480, 640)


def test_embedding_is_upstreams(encoded: tuple[Pair, Embedding, tuple[int, int]]) -> None:
    pair, embedding, size_hw = encoded
    assert embedding.grid.original_hw == size_hw
    assert embedding.grid.input_hw == embedding.grid.prompt_hw == pair.upstream.input_size
    torch.testing.assert_close(embedding.features, pair.upstream.features, atol=1e-4, rtol=0)


@pytest.mark.parametrize("multimask", [True, False])
def test_every_kind_of_prompt_is_upstreams(
    encoded: tuple[Pair, Embedding, tuple[int, int]], multimask: bool
) -> None:
    pair, embedding, size_hw = encoded
    for prompt in prompts_for(size_hw, 256).values():
        (answer,) = pair.ours.decode(embedding, [prompt], multimask_output=multimask)
        assert_same(answer, upstream_answer(pair.upstream, prompt, multimask))


def test_a_mix_in_one_call_is_upstreams(encoded: tuple[Pair, Embedding, tuple[int, int]]) -> None:
    pair, embedding, size_hw = encoded
    prompts = list(prompts_for(size_hw, 256).values())
    multimask = [i % 3 != 0 for i in range(len(prompts))]
    answers = pair.ours.decode(embedding, prompts, multimask_output=multimask)
    for prompt, flag, answer in zip(prompts, multimask, answers, strict=True):
        assert len(answer.masks) == (3 if flag else 1)
        assert_same(answer, upstream_answer(pair.upstream, prompt, flag))


def test_full_vit_b_is_upstreams(vit_b: tuple[Pair, Embedding, tuple[int, int]]) -> None:
    pair, embedding, size_hw = vit_b
    torch.testing.assert_close(embedding.features, pair.upstream.features, atol=1e-4, rtol=0)
    prompts = list(prompts_for(size_hw, 256).values())
    for prompt, answer in zip(prompts, pair.ours.decode(embedding, prompts), strict=True):
        assert_same(answer, upstream_answer(pair.upstream, prompt, True))


def test_prompts_make_a_difference(small_pair: Pair) -> None:
    """Else parity would prove nothing."""
    embedding = small_pair.ours.encode(picture((480, 640)))
    prompts = prompts_for((480, 640), 256)
    answers = small_pair.ours.decode(embedding, list(prompts.values()), False)
    logits = np.stack([answer.low_res_logits[0] for answer in answers])
    differences = np.abs(logits[:, None] - logits[None]).max(axis=(2, 3))
    assert differences[~np.eye(len(logits), dtype=bool)].min() > 10 * TOLERANCE


def test_more_prompts_than_one_batch_holds(small_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = small_pair.encode(picture((480, 640)))
    prompts = [click(40.0 * i, 30.0 * i) for i in range(7)]
    monkeypatch.setattr(predictor_module, "DECODE_BATCH", {"cpu": 3})
    for prompt, answer in zip(prompts, small_pair.ours.decode(embedding, prompts), strict=True):
        assert_same(answer, upstream_answer(small_pair.upstream, prompt, True))


def test_best_only_keeps_the_first(small_pair: Pair) -> None:
    embedding = small_pair.ours.encode(picture((300, 200)))
    prompts = list(prompts_for((300, 200), 256).values())
    every = small_pair.ours.decode(embedding, prompts)
    best = small_pair.ours.decode(embedding, prompts, best_only=True)
    for all_three, one in zip(every, best, strict=True):
        assert (np.diff(all_three.predicted_iou) <= 0).all()
        assert one.masks.shape == (1, 300, 200)
        assert (one.masks != all_three.masks[:1]).mean() < 1e-4  # rounding at the threshold
        np.testing.assert_allclose(one.low_res_logits, all_three.low_res_logits[:1], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(one.predicted_iou, all_three.predicted_iou[:1])
        np.testing.assert_array_equal(one.other_predicted_iou, all_three.predicted_iou[1:])
        assert len(all_three.other_predicted_iou) == 0


def test_best_only_for_each_prompt(small_pair: Pair) -> None:
    embedding = small_pair.ours.encode(picture((100, 120)))
    prompts = [click(5, 5), click(60, 40), click(5, 5)]
    answers = small_pair.ours.decode(embedding, prompts, [True, True, False], best_only=[True, False, True])
    assert [len(answer.masks) for answer in answers] == [1, 3, 1]
    assert [len(answer.other_predicted_iou) for answer in answers] == [2, 0, 0]
    with pytest.raises(ValueError, match="best_only has 1 values for 3 prompts"):
        small_pair.ours.decode(embedding, prompts, best_only=[True])


def test_answers_are_host_arrays_and_inputs_stay_as_they_were(small_pair: Pair) -> None:
    image = picture((100, 120))
    before = image.copy()
    (answer,) = small_pair.ours.decode(small_pair.ours.encode(image), [click(5, 5)])
    np.testing.assert_array_equal(image, before)
    assert answer.masks.shape == (3, 100, 120)
    assert answer.low_res_logits.shape == (3, 256, 256) and answer.low_res_logits.dtype == np.float32
    assert answer.predicted_iou.shape == answer.stability_score.shape == (3,)


def test_no_prompts_no_answers(small_pair: Pair) -> None:
    assert small_pair.ours.decode(small_pair.ours.encode(picture((20, 20))), []) == []


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((10, 10), np.uint8), r"image_rgb must be \(H, W, 3\) uint8, got \(10, 10\) uint8"),
        (np.zeros((10, 10, 4), np.uint8), r"image_rgb must be .* got \(10, 10, 4\) uint8"),
        (np.zeros((10, 10, 3), np.float32), r"image_rgb must be .* got \(10, 10, 3\) float32"),
        (np.zeros((0, 10, 3), np.uint8), "image of 10 x 0 pixels is empty or too elongated"),
        (np.zeros((1, 5000, 3), np.uint8), "image of 5000 x 1 pixels is empty or too elongated"),
    ],
)
def test_wrong_images_are_refused(small_pair: Pair, image: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        small_pair.ours.encode(image)


def test_the_grid_is_the_one_that_an_image_is_encoded_with(small_pair: Pair) -> None:
    assert small_pair.ours.grid((7, 11)) == padded_grid((7, 11), 1024)
    assert small_pair.ours.encode(picture((7, 11))).grid == small_pair.ours.grid((7, 11))
    with pytest.raises(InvalidImageError, match="image of 1 x 5000 pixels"):
        small_pair.ours.grid((5000, 1))


def test_logits_of_another_model_are_refused(small_pair: Pair) -> None:
    embedding = small_pair.ours.encode(picture((20, 20)))
    with pytest.raises(InvalidPromptError, match=r"prompt 1 must be \(256, 256\)"):
        small_pair.ours.decode(
            embedding, [click(1, 1), Prompt(low_res_logits=np.zeros((64, 64), np.float32))]
        )


def test_flags_must_match_the_prompts(small_pair: Pair) -> None:
    embedding = small_pair.ours.encode(picture((20, 20)))
    with pytest.raises(ValueError, match="2 values for 1 prompts"):
        small_pair.ours.decode(embedding, [click(1, 1)], multimask_output=[True, False])


@pytest.fixture
def miniature(tmp_path: Path) -> Callable[..., Predictor]:
    """Load a fresh miniature model with the given options."""
    path = tmp_path / "miniature.safetensors"
    save_random_sam(MINIATURE, path)
    return lambda **options: load_predictor("sam_tiny", path, **options)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_is_near(miniature: Callable[..., Predictor], precision: str) -> None:
    image = picture((60, 90))
    exact = miniature().encode(image).features
    reduced = miniature(precision=precision).encode(image).features
    assert reduced.dtype == torch.float32
    assert 0 < (reduced - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize(
    ("num_prompts", "chunks"),
    [(DECODE_BATCH["cpu"], [DECODE_BATCH["cpu"] // 2] * 2), (5, [2, 2, 1]), (2, [1, 1])],
)
def test_with_too_little_memory_half_as_many_prompts_are_decoded_at_once(
    miniature: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch, num_prompts: int, chunks: list[int]
) -> None:
    predictor = miniature()
    embedding = predictor.encode(picture((20, 20)))
    prompts = [click(x, 5) for x in range(num_prompts)]
    expected = predictor.decode(embedding, prompts)
    decode_batch, asked = predictor._decode_batch, []

    def limited(embedding: Embedding, prompts: Sequence[Prompt]) -> Any:
        asked.append(len(prompts))
        if len(prompts) > room:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return decode_batch(embedding, prompts)

    monkeypatch.setattr(predictor, "_decode_batch", limited)
    room = num_prompts // 2
    for ours, theirs in zip(predictor.decode(embedding, prompts), expected, strict=True):
        assert np.array_equal(ours.masks, theirs.masks)
    assert asked == [num_prompts, *chunks]
    room = 0
    with pytest.raises(DeviceMemoryError, match="more memory than cpu has left"):
        predictor.decode(embedding, prompts)
    room = num_prompts
    predictor.decode(embedding, prompts)


def test_an_image_is_encoded_once_more_after_memory_was_freed(
    miniature: Callable[..., Predictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = miniature()
    preprocess = predictor._preprocess
    failures: list[Exception] = [torch.OutOfMemoryError("full")]

    def failing(*arguments: Any) -> torch.Tensor:
        if failures:
            raise failures.pop()
        return preprocess(*arguments)

    monkeypatch.setattr(predictor, "_preprocess", failing)
    predictor.encode(picture((20, 20)))
    failures += [torch.OutOfMemoryError("full")] * 2
    with pytest.raises(DeviceMemoryError, match="full"):
        predictor.encode(picture((20, 20)))
    failures += [accelerator_error("pinned memory is exhausted", CUDA_OUT_OF_MEMORY)] * 2
    with pytest.raises(DeviceMemoryError, match="pinned memory is exhausted"):
        predictor.encode(picture((20, 20)))
    failures.append(accelerator_error("an illegal memory access was encountered", 700))
    with pytest.raises(DeviceError, match="cpu failed: an illegal memory access"):
        predictor.encode(picture((20, 20)))
    assert not failures


def test_values_that_are_not_finite_are_an_error() -> None:
    sam = random_sam(MINIATURE)
    sam.mask_decoder.mask_tokens.weight.fill_(float("nan"))
    broken = Predictor(sam, model_type="sam_tiny")
    embedding = broken.encode(picture((10, 10)))
    with pytest.raises(ModelOutputError, match="not finite"):
        broken.decode(embedding, [click(1, 1)])
    sam.image_encoder.pos_embed.fill_(float("inf"))
    with pytest.raises(ModelOutputError, match="not finite"):
        Predictor(sam, model_type="sam_tiny").encode(picture((10, 10)))


@pytest.mark.parametrize("option", [{"device": "tpu"}, {"device": "cuda:99"}, {"precision": "int3"}])
def test_unknown_options_are_refused(miniature: Callable[..., Predictor], option: dict[str, str]) -> None:
    (value,) = option.values()
    with pytest.raises(SamRosError, match=value):
        miniature(**option)


def test_auto_takes_what_is_there(miniature: Callable[..., Predictor]) -> None:
    chosen = miniature(device="auto", precision="auto")
    assert chosen.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen.precision in ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"architecture": "x86_64", "avx2": True}, {"float32": True, "bfloat16": False, "float16": False}),
        ({"architecture": "x86_64", "avx512_bf16": True}, {"bfloat16": True, "float16": False}),
        ({"architecture": "x86_64", "amx_bf16": True, "amx_fp16": True}, {"bfloat16": True, "float16": True}),
        ({"architecture": "aarch64", "neon": True}, {"float32": True, "bfloat16": False, "float16": False}),
        ({"architecture": "aarch64", "bf16": True, "fp16_arith": True}, {"bfloat16": True, "float16": True}),
    ],
)
def test_a_precision_is_fast_where_there_are_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch,
    miniature: Callable[..., Predictor],
    capabilities: dict[str, Any],
    fast: dict[str, bool],
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert {precision: is_fast(precision, torch.device("cpu")) for precision in fast} == fast
    automatic = miniature(device="cpu", precision="auto")
    assert automatic.precision == ("bfloat16" if fast["bfloat16"] else "float32")


def test_a_torch_that_cannot_tell_takes_float32(
    monkeypatch: pytest.MonkeyPatch, miniature: Callable[..., Predictor]
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert miniature(device="cpu", precision="auto").precision == "float32"


@pytest.mark.parametrize("supported", [False, True])
def test_a_gpu_is_asked_whether_it_has_bfloat16(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    asked: list[bool] = []

    def answer(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return supported

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    assert is_fast("bfloat16", torch.device("cuda", 0)) is supported
    assert asked == [False]
    assert is_fast("float16", torch.device("cuda", 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu(miniature: Callable[..., Predictor]) -> None:
    prompts = list(prompts_for((60, 90), 32).values())
    on_gpu, on_cpu = miniature(device="cuda"), miniature()
    for image in (picture((60, 90)), picture((60, 90))[::-1].copy()):  # captured once, then replayed
        embedding, expected = on_gpu.encode(image), on_cpu.decode(on_cpu.encode(image), prompts)
        together = on_gpu.decode(embedding, prompts)
        alone = [on_gpu.decode(embedding, [prompt])[0] for prompt in prompts]
        for answers in (together, alone):
            for answer, right in zip(answers, expected, strict=True):
                assert_same(answer, right)

"""The training loop on a miniature architecture: it resumes as if it had not stopped, and its file loads."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from random_models import DETAILED, random_sam, save_lite_backbone, save_random_sam
from segment_anything import SamPredictor
from torch import distributed

from sam_ros.core.architecture import Architecture
from sam_ros.core.efficientnet import ConvNorm, Levels, unpacked
from sam_ros.core.model import build_sam
from training.answers import KINDS
from training.batches import Mixture, PictureBatches
from training.evaluate import measure
from training.export import export, load_exported
from training.pool import ScenePool
from training.pretrained import load_backbone
from training.prompting import MASK_LOGIT, decode, embed_logits, embed_points_and_boxes, mask_prompts
from training.train import (
    LOG_EVERY,
    Run,
    Settings,
    average_gradients,
    batches,
    rate_share,
    resume,
    save,
    start,
    start_from,
    train,
    train_step,
)

SETTINGS = Settings(steps=8, pictures=2, prompts=2, warmup=2, pool_size=4, architecture=DETAILED)
MIXTURE = Mixture(ScenePool(4, None))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A backbone as its package ships it, and an exported sam_tiny."""
    folder = tmp_path_factory.mktemp("begin")
    save_lite_backbone(folder / "lite0.pth")
    save_random_sam(DETAILED, folder / "before.safetensors")
    return folder / "lite0.pth", folder / "before.safetensors"


def losses(run: Run, steps: int) -> list[float]:
    settings = run.settings
    size = settings.architecture.image_size
    data = PictureBatches(MIXTURE, settings.pictures, settings.prompts, size, settings.seed)
    return [train_step(run, [data[run.step]])["loss"] for _ in range(steps)]


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = start(SETTINGS, *files)
    losses(run, 2)
    save(run, tmp_path)
    uninterrupted = losses(run, 2)
    resumed = resume(tmp_path / "checkpoint.pt")
    assert resumed.step == 2
    assert losses(resumed, 2) == uninterrupted


def test_a_run_writes_its_files_and_can_be_given_more_steps(files: tuple[Path, Path], tmp_path: Path) -> None:
    mixture = Mixture(ScenePool(4, tmp_path / "scenes"))
    train(start(replace(SETTINGS, steps=2, pictures=1, prompts=1), *files), mixture, tmp_path, 0, 1000)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "log.jsonl", "scenes"}
    assert 1 <= len(list((tmp_path / "scenes").iterdir())) <= 4
    again = resume(tmp_path / "checkpoint.pt", steps=LOG_EVERY + 2, neck_rate=0.5, image_size=96)
    assert (again.settings.steps, again.settings.pictures) == (LOG_EVERY + 2, 1)
    assert again.sam.image_encoder.img_size == 96
    assert 0.5 in [group["rate"] for group in again.optimizer.param_groups]
    train(again, mixture, tmp_path, 0, 1000)
    assert json.loads((tmp_path / "log.jsonl").read_text())["step"] == LOG_EVERY + 2
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_process_ends_with_the_one_that_started_it(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, that one cannot end it; left alone, it would write into the folder of a resumed run."""
    ended = SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: ended)
    with pytest.raises(SystemExit, match="has ended"):
        train(start(SETTINGS, *files), MIXTURE, tmp_path, 0, 1000)
    assert not list(tmp_path.iterdir())


def average_one_and_three(rank: int, meeting_point: str) -> None:
    distributed.init_process_group("gloo", meeting_point, rank=rank, world_size=2)
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1, 3))]
    parameters[0].grad = torch.full((2,), 1.0 + 2 * rank)
    average_gradients(parameters)
    assert parameters[0].grad.tolist() == [2.0, 2.0]
    assert parameters[1].grad is None
    distributed.destroy_process_group()  # its threads would abort the process at its end, now and then


def test_processes_that_train_together_average_their_gradients(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    meeting_point = f"file://{tmp_path}/meeting_point"
    processes = [context.Process(target=average_one_and_three, args=(r, meeting_point)) for r in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0]


def test_the_rates_rise_and_fall() -> None:
    settings = Settings(steps=1000, last_rate_share=0.1, warmup=10)
    shares = [rate_share(settings, step) for step in (0, 9, 500, 1000)]
    assert shares == pytest.approx([0.1, 0.9919, 0.55, 0.1])
    later = replace(settings, first_step=600)
    assert [rate_share(later, step) for step in (600, 800)] == pytest.approx([0.1, 0.55])


def test_batches_are_accumulated_to_their_mean(files: tuple[Path, Path]) -> None:
    settings = replace(SETTINGS, accumulate=2)
    first, second = (list(batches(settings, MIXTURE, step, 0, 0)) for step in (0, 7))
    assert [len(first), len(second)] == [8, 1]
    assert torch.equal(first[7][1].images, second[0][1].images)
    assert not torch.equal(first[0][0].images, first[0][1].images)
    alone, twice = start(SETTINGS, *files), start(SETTINGS, *files)
    one, two = first[0]
    record = train_step(twice, [one, two])
    assert 0 <= record["box_iou"] <= 1 and record["gradient_norm"] > 0
    assert record["loss"] != train_step(alone, [one])["loss"]


def test_a_new_run_begins_with_backbone_and_decoder(files: tuple[Path, Path]) -> None:
    sam = start(SETTINGS, *files).sam
    stored = torch.load(files[0], weights_only=True)
    encoder = sam.image_encoder
    assert torch.equal(encoder.stages[6][0].project.conv.weight, stored["_blocks.15._project_conv.weight"])
    assert torch.equal(encoder.stages[1][0].depthwise.norm.running_var, stored["_blocks.1._bn1.running_var"])
    before, _ = load_exported(files[1])
    assert torch.equal(sam.mask_decoder.mask_tokens.weight, before.mask_decoder.mask_tokens.weight)
    levels = encoder.levels(torch.randn(1, 3, 64, 64))
    assert levels.embedding.abs().max() > 0
    assert levels.eighth.abs().max() == 0 and levels.quarter.abs().max() == 0


def test_the_stem_takes_pixels_as_sam_normalises_them(files: tuple[Path, Path]) -> None:
    encoder = build_sam(DETAILED).image_encoder
    load_backbone(encoder, files[0])
    stored = torch.load(files[0], weights_only=True)
    plain = ConvNorm(3, 32, kernel=3, stride=2)
    plain.conv.weight.data, plain.norm.running_mean = stored["_conv_stem.weight"], stored["_bn0.running_mean"]
    plain.norm.weight.data, plain.norm.bias.data = stored["_bn0.weight"], stored["_bn0.bias"]
    plain.norm.running_var = stored["_bn0.running_var"]
    pixels = 255 * torch.rand(1, 3, 16, 16)
    sam = build_sam(DETAILED)
    expected, ours = plain((pixels - 127) / 128), encoder.stem((pixels - sam.pixel_mean) / sam.pixel_std)
    torch.testing.assert_close(ours[..., :-1, :-1], expected[..., :-1, :-1], atol=1e-4, rtol=1e-4)


def test_a_backbone_of_another_size_is_refused(files: tuple[Path, Path]) -> None:
    encoder = build_sam(replace(DETAILED, width=1.1)).image_encoder
    with pytest.raises(ValueError, match=r"lite0\.pth is of another size"):
        load_backbone(encoder, files[0])


def test_a_run_goes_on_from_an_exported_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = start(SETTINGS, *files)
    losses(run, 1)
    save(run, tmp_path)
    export(tmp_path / "checkpoint.pt", tmp_path / "exported.safetensors")
    larger = replace(SETTINGS.architecture, image_size=2 * SETTINGS.architecture.image_size)
    again = start_from(tmp_path / "exported.safetensors", replace(SETTINGS, architecture=larger))
    assert again.step == again.settings.first_step == 1
    averaged = run.average.state_dict()["module.mask_decoder.iou_token.weight"]
    torch.testing.assert_close(again.sam.mask_decoder.iou_token.weight, averaged, atol=1e-3, rtol=1e-3)
    assert all(parameter.requires_grad for parameter in again.sam.parameters())
    losses(again, 1)
    save(again, tmp_path)
    assert resume(tmp_path / "checkpoint.pt").settings == again.settings


def test_every_parameter_is_updated_at_the_rate_of_its_part(files: tuple[Path, Path]) -> None:
    run = start(SETTINGS, *files)
    rates = {id(p): group["rate"] for group in run.optimizer.param_groups for p in group["params"]}
    assert rates.keys() == {id(p) for p in run.sam.parameters()}
    assert rates[id(run.sam.image_encoder.stem.conv.weight)] == SETTINGS.backbone_rate
    assert rates[id(run.sam.image_encoder.neck.merge.weight)] == SETTINGS.neck_rate
    assert rates[id(run.sam.mask_decoder.iou_token.weight)] == SETTINGS.decoder_rate
    decay = {id(p): group["weight_decay"] for group in run.optimizer.param_groups for p in group["params"]}
    assert decay[id(run.sam.image_encoder.stem.norm.weight)] == 0


def test_the_exported_file_loads_and_answers(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = start(SETTINGS, *files)
    losses(run, 1)
    save(run, tmp_path)
    export(tmp_path / "checkpoint.pt", tmp_path / "sam.safetensors")
    sam, metadata = load_exported(tmp_path / "sam.safetensors")
    assert Architecture.from_dict(json.loads(metadata["architecture"])) == DETAILED
    assert metadata["training_steps"] == "1"
    variance = run.average.state_dict()["module.image_encoder.stem.norm.running_var"]
    assert torch.equal(sam.image_encoder.stem.norm.running_var, variance), "not rounded"
    figures = measure(SamPredictor(sam), scenes=2)
    assert set(figures) == set(KINDS)
    assert all(0 <= value <= 1 for row in figures.values() for value in (row["iou"], row["best_iou"]))


def test_exported_weights_may_lie_between_those_of_two_runs(files: tuple[Path, Path], tmp_path: Path) -> None:
    run = start(SETTINGS, *files)
    save(run, tmp_path)
    checkpoint, before, mixed = (
        tmp_path / name for name in ("checkpoint.pt", "b.safetensors", "m.safetensors")
    )
    export(checkpoint, before)
    name = "mask_decoder.iou_prediction_head.layers.0.weight"
    weight = dict(run.average.module.named_parameters())[name]
    with torch.no_grad():
        weight.add_(4.0)
    save(run, tmp_path)
    export(checkpoint, mixed, before, 0.25)
    found = dict(load_exported(mixed)[0].named_parameters())[name]
    once_rounded = torch.lerp(dict(load_exported(before)[0].named_parameters())[name], weight, 0.25).half()
    assert torch.equal(found, once_rounded.float())
    assert not torch.equal(weight, weight.half().float())  # else rounding twice would be the same
    other = replace(DETAILED, neck_blocks=2)
    save_random_sam(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors has another architecture"):
        export(checkpoint, mixed, tmp_path / "other.safetensors", 0.25)


def test_decoding_many_images_at_once_equals_sam() -> None:
    sam = random_sam(DETAILED)
    features = torch.randn(2, 128, 4, 4)
    points, labels = torch.rand(6, 1, 2) * 64, torch.ones(6, 1)
    is_box = torch.zeros(6, dtype=torch.bool)
    with torch.no_grad():
        levels: Levels = unpacked(features)
        ours = embed_points_and_boxes(sam, points, labels, torch.zeros(6, 4), is_box, 0)
        logits, iou = decode(sam, levels, ours, embed_logits(sam, None, 6))
        for image in range(2):
            rows = slice(3 * image, 3 * image + 3)
            sparse, dense = sam.prompt_encoder((points[rows], labels[rows]), None, None)
            pe = sam.prompt_encoder.get_dense_pe()
            expected = sam.mask_decoder.predict_masks(features[image : image + 1], pe, sparse, dense)
            torch.testing.assert_close(logits[rows], expected[0])
            torch.testing.assert_close(iou[rows], expected[1])


def test_clicks_and_boxes_are_embedded_as_sam_does() -> None:
    encoder = (sam := random_sam(DETAILED)).prompt_encoder
    points, labels, boxes = torch.rand(2, 2, 2) * 64, torch.tensor([[1, 0], [1, 1]]), torch.rand(2, 4) * 64
    tokens = embed_points_and_boxes(sam, points, labels, boxes, torch.tensor([False, True]), 1)
    clicks = encoder((points[:1], labels[:1]), None, None)[0]
    box = encoder((points[1:, 1:], labels[1:, 1:]), boxes[1:], None)[0]
    torch.testing.assert_close(tokens, torch.cat([clicks, box]))


def test_mask_prompts_are_logits_of_both_signs() -> None:
    share = torch.zeros(1, 8, 8)
    share[:, :4] = 1
    for seed in range(8):
        logits = mask_prompts(share, torch.Generator().manual_seed(seed))
        assert logits.shape == (1, 4, 4)
        assert logits.abs().eq(MASK_LOGIT).all()
        assert logits.min() < 0 < logits.max()

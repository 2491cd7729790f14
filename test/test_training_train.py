"""The training loop on a miniature architecture: it resumes as if it had not stopped, and its file loads."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from random_models import TRAINABLE
from segment_anything import SamPredictor
from torch import distributed

from sam_ros.core.architecture import Architecture
from sam_ros.core.model import build_sam
from training.answers import KINDS
from training.batches import SceneBatches
from training.enlarge import enlarged
from training.evaluate import measure
from training.export import export, load_exported
from training.prompting import MASK_LOGIT, decode, embed_logits, embed_points_and_boxes, mask_prompts
from training.train import (
    LOG_EVERY,
    Run,
    Settings,
    average_gradients,
    balanced_weight,
    learning_rate,
    mask_gradient_share,
    resume,
    save,
    start,
    start_from,
    train,
    train_step,
)

SETTINGS = Settings(
    steps=8, scenes=2, prompts=2, warmup=2, pool_size=4, whitening_scenes=4, architecture=TRAINABLE
)


def losses(run: Run, steps: int) -> list[float]:
    settings = run.settings
    size = settings.architecture.image_size
    data = SceneBatches(settings.scenes, settings.prompts, size, settings.seed, settings.pool_size)
    return [train_step(run, data[run.step])["loss"] for _ in range(steps)]


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    run = start(SETTINGS)
    losses(run, 3)
    save(run, tmp_path)
    uninterrupted = losses(run, 4)
    resumed = resume(tmp_path / "checkpoint.pt")
    assert resumed.step == 3
    assert losses(resumed, 4) == uninterrupted


def test_a_run_writes_its_files_and_can_be_given_more_steps(tmp_path: Path) -> None:
    train(
        start(replace(SETTINGS, steps=2, scenes=1, prompts=1), tmp_path / "scenes"),
        tmp_path,
        0,
        1000,
        folder=tmp_path / "scenes",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "log.jsonl", "scenes"}
    assert 1 <= len(list((tmp_path / "scenes").iterdir())) <= SETTINGS.pool_size
    train(resume(tmp_path / "checkpoint.pt", steps=LOG_EVERY + 2), tmp_path, 0, 1000)
    assert json.loads((tmp_path / "log.jsonl").read_text())["step"] == LOG_EVERY + 2
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed, that one cannot end it; left alone, it would write into the folder of a resumed run."""
    ended = SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: ended)
    with pytest.raises(SystemExit, match="has ended"):
        train(start(replace(SETTINGS, steps=2, scenes=1, prompts=1)), tmp_path, 0, 1000)
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
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = Settings(steps=1000, learning_rate=1.0, last_rate_share=0.0, warmup=10, decay_share=0.5)
    rates = [learning_rate(settings, step) for step in (0, 9, 499, 750, 999)]
    assert rates == pytest.approx([0.1, 1, 1, 0.5, 0.002])
    assert learning_rate(replace(settings, last_rate_share=0.2), 1000) == pytest.approx(0.2)
    later = replace(settings, first_step=600)
    rates = [learning_rate(later, step) for step in (600, 609, 799, 900)]
    assert rates == pytest.approx([0.1, 1, 1, 0.5])


@pytest.mark.parametrize("weights", ["checkpoint.pt", "exported.safetensors"])
def test_a_run_goes_on_with_larger_images(tmp_path: Path, weights: str) -> None:
    run = start(SETTINGS)
    losses(run, 2)
    run.records = [{"step": 2, "loss": 1.0, "click_iou": 0.5, "box_iou": 0.5}]
    save(run, tmp_path)
    export(tmp_path / "checkpoint.pt", tmp_path / "exported.safetensors")
    larger = replace(TRAINABLE, image_size=128)
    settings = replace(SETTINGS, architecture=larger)
    again = start_from(tmp_path / weights, settings)
    assert again.step == again.settings.first_step == 2
    assert again.records == (run.records if weights == "checkpoint.pt" else [])
    assert again.sam.image_encoder.img_size == 128
    averaged = run.average.state_dict()["module.mask_decoder.iou_token.weight"]
    torch.testing.assert_close(again.sam.mask_decoder.iou_token.weight, averaged, atol=1e-3, rtol=1e-3)
    assert all(parameter.requires_grad for parameter in again.sam.parameters())
    losses(again, 1)
    save(again, tmp_path)
    assert resume(tmp_path / "checkpoint.pt").settings == again.settings


def test_enlarged_positions_lie_between_the_old_ones() -> None:
    small = build_sam(TRAINABLE)
    encoder = small.image_encoder
    rows = torch.arange(4.0)[None, :, None, None]
    encoder.pos_embed.data.copy_(rows.expand_as(encoder.pos_embed))
    table = encoder.blocks[1].attn.rel_pos_h
    table.data.copy_(torch.arange(-3.0, 4)[:, None].expand_as(table))
    large = enlarged(small, replace(TRAINABLE, image_size=128)).image_encoder
    assert large.pos_embed[0, :, 3, 5].diff().gt(0).all()
    assert large.pos_embed[0, 3:5, 0, 0].mean().item() == pytest.approx(1.5, abs=1e-4)
    assert large.blocks[1].attn.rel_pos_h[:, 0].tolist() == pytest.approx(
        torch.linspace(-3, 3, 15).tolist(), abs=1e-5
    )
    torch.testing.assert_close(large.blocks[0].attn.rel_pos_h, encoder.blocks[0].attn.rel_pos_h)


def test_every_parameter_is_updated_by_one_optimizer() -> None:
    run = start(SETTINGS)
    updated = [p for o in run.optimizers for group in o.param_groups for p in group["params"]]
    everything = [*run.sam.parameters(), *run.pixel_head.parameters()]
    assert len(updated) == len(everything)
    assert {id(p) for p in updated} == {id(p) for p in everything}
    muon = run.optimizers[1].param_groups[0]["params"]
    assert all(p.ndim == 2 for p in muon)
    assert any(p is run.sam.image_encoder.blocks[0].attn.qkv.weight for p in muon)
    assert all(p is not run.sam.image_encoder.blocks[0].attn.rel_pos_h for p in muon)


def test_the_masks_teach_the_encoder_after_the_decoder_found_its_feet() -> None:
    assert [mask_gradient_share(step) for step in (0, 200, 350, 500, 9000)] == [0, 0, 0.5, 1, 1]
    assert [balanced_weight(step) for step in (0, 300, 600, 9000)] == [1, 0.5, 0, 0]


def test_the_exported_file_loads_and_answers(tmp_path: Path) -> None:
    run = start(SETTINGS)
    losses(run, 1)
    save(run, tmp_path)
    export(tmp_path / "checkpoint.pt", tmp_path / "sam.safetensors")
    sam, metadata = load_exported(tmp_path / "sam.safetensors")
    assert Architecture.from_dict(json.loads(metadata["architecture"])) == TRAINABLE
    assert metadata["training_steps"] == "1"
    figures = measure(SamPredictor(sam), scenes=2)
    assert set(figures) == set(KINDS)
    assert all(0 <= value <= 1 for row in figures.values() for value in (row["iou"], row["best_iou"]))


def test_exported_weights_may_lie_between_those_of_two_runs(tmp_path: Path) -> None:
    run = start(SETTINGS)
    save(run, tmp_path)
    checkpoint, before, mixed = (
        tmp_path / name for name in ("checkpoint.pt", "b.safetensors", "m.safetensors")
    )
    export(checkpoint, before)
    name = "mask_decoder.iou_prediction_head.layers.0.bias"
    bias = dict(run.average.module.named_parameters())[name]
    with torch.no_grad():
        bias.add_(4.0)
    save(run, tmp_path)
    export(checkpoint, mixed, before, 0.25)
    found = dict(load_exported(mixed)[0].named_parameters())[name]
    once_rounded = torch.lerp(dict(load_exported(before)[0].named_parameters())[name], bias, 0.25).half()
    assert torch.equal(found, once_rounded.float())
    assert not torch.equal(bias, bias.half().float())  # else rounding twice would be the same
    other = replace(SETTINGS, architecture=replace(TRAINABLE, image_size=128))
    save(start(other), tmp_path)
    with pytest.raises(ValueError, match=r"b\.safetensors has another architecture"):
        export(checkpoint, mixed, before, 0.25)


def test_decoding_many_images_at_once_equals_sam() -> None:
    sam = start(SETTINGS).sam.eval()
    embedding = torch.randn(1, 32, 4, 4)
    points, labels = torch.rand(3, 1, 2) * 64, torch.ones(3, 1)
    is_box = torch.zeros(3, dtype=torch.bool)
    with torch.no_grad():
        sparse, dense = sam.prompt_encoder((points, labels), None, None)
        expected = sam.mask_decoder.predict_masks(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)
        ours = embed_points_and_boxes(sam, points, labels, torch.zeros(3, 4), is_box, 0)
        logits, iou = decode(sam, embedding.expand(3, -1, -1, -1), ours, embed_logits(sam, None, 3))
    torch.testing.assert_close(logits, expected[0])
    torch.testing.assert_close(iou, expected[1])


def test_clicks_and_boxes_are_embedded_as_sam_does() -> None:
    encoder = (sam := start(SETTINGS).sam).prompt_encoder
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

"""The initial weights: what the first training step starts from."""

from __future__ import annotations

import torch
from random_models import TRAINABLE

from training.initial import FOREGROUND_LOGIT, valid_patches
from training.prompting import decode, embed_logits, embed_points_and_boxes
from training.train import Run, Settings, sample_batch, start


def new_run() -> Run:
    return start(Settings(whitening_scenes=16, architecture=TRAINABLE))


def test_patches_of_the_padding_are_left_out() -> None:
    images = torch.ones(1, 3, 64, 64)
    valid = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    valid[..., 40:, :] = False
    assert valid_patches(images, valid).shape == (8, 768)


def test_embedded_patches_have_no_mean() -> None:
    run = new_run()
    sample = sample_batch(run.settings, None)
    patches = valid_patches((sample.images - run.sam.pixel_mean) / run.sam.pixel_std, sample.valid)
    projection = run.sam.image_encoder.patch_embed.proj
    with torch.no_grad():
        embedded = patches @ projection.weight.flatten(1).T + projection.bias
    assert embedded.std() > 0.1
    assert embedded.mean(0).abs().max() < 1e-2 * embedded.std()


def test_masks_begin_as_background() -> None:
    sam = new_run().sam.eval()
    points, is_box = torch.rand(4, 1, 2) * 64, torch.tensor([False, False, True, True])
    boxes = torch.tensor([[8.0, 8, 40, 40]]).expand(4, -1)
    with torch.no_grad():
        sparse = embed_points_and_boxes(sam, points, torch.ones(4, 1), boxes, is_box, 0)
        logits, _ = decode(sam, torch.randn(4, 32, 4, 4), sparse, embed_logits(sam, None, 4))
    assert abs(logits.mean().item() - FOREGROUND_LOGIT) < 0.5


def test_queries_and_keys_compare_positions_alike() -> None:
    for layer in new_run().sam.mask_decoder.transformer.layers:
        for attention in (layer.cross_attn_token_to_image, layer.cross_attn_image_to_token):
            assert attention.q_proj.weight.equal(attention.k_proj.weight)

"""A very small image experiment with everything that an image experiment may have, for tests of whole runs."""

import dataclasses

from data.forms import ImageForm
from data.images.augmentation import Augmentation
from data.images.source import Images
from experiments.experiment import Experiment, Phase
from models.levit import LevitConfig
from models.vit import ViTConfig
from objectives import Classification, MaskedImage
from training.optimizers import AdamW

DIGITS = tuple("0123456789")


def small() -> Experiment:
    """LeViT: batch norms, an average, mixed pictures, two resolutions."""
    return Experiment(
        name="small-images",
        architecture="LevitForImageClassification",
        model=LevitConfig(
            image_size=32,
            hidden_sizes=(16, 24, 32),
            num_attention_heads=(1, 2, 2),
            depths=(1, 1, 1),
            key_dim=(8, 8, 8),
            labels=DIGITS,
        ),
        objective=Classification(smoothing=0.1),
        data=Images(held_out=0.02, rand_augment=1, augment=Augmentation(flip=0.0, mixup=0.8, cutmix=1.0, erasing=0.2)),
        optimizer=AdamW(learning_rate=1e-3, warmup_steps=5),
        batch_size=8,
        steps=12,
        phases=(Phase(1.0, ImageForm(32)),),
        evaluate_every=6,
        evaluation_examples=30,
        checkpoint_every=3,
        average_decay=0.9,
    )


def masked() -> Experiment:
    """ViT, asked for hidden squares."""
    base = small()
    return dataclasses.replace(
        base,
        name="small-masked",
        architecture="ViTForMaskedImageModeling",
        model=ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=16,
            patch_size=4,
            encoder_stride=4,
        ),
        objective=MaskedImage(patch_size=4, mask_patch_size=4),
        data=dataclasses.replace(base.data, rand_augment=0, augment=Augmentation(flip=0.0)),
        phases=(Phase(1.0, ImageForm(16)),),
        average_decay=None,
    )


def classified() -> Experiment:
    """The same ViT with a head, to begin with what `masked` leaves."""
    base = masked()
    return dataclasses.replace(
        base,
        name="small-classified",
        architecture="ViTForImageClassification",
        objective=Classification(),
        model=dataclasses.replace(base.model, image_size=24),
        phases=(Phase(1.0, ImageForm(24)),),
    )

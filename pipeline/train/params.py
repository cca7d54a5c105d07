"""The section `train` of `params.yaml`: its views, losses and schedules are models that `name` selects.

The views are the random transforms of `train.online`. They are drawn anew for every view of a training image, in the
order of the list; validation and test images never see them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.base.section import Area, Degrees, Positive, Scales, Section, ShearDegrees, Translate

Probability = Annotated[float, Field(gt=0, le=1)]
Jitter = Annotated[float, Field(ge=0, le=10)]


class RandomResizedCropView(Section):
    """A box of random area and aspect, resized to `image.size`."""

    name: Literal["random_resized_crop"]
    area: tuple[Area, Area]  # as a share of the picture's area
    aspect: Scales  # width / height


class PaddedCropView(Section):
    """A random square of `image.size` from the picture at that size with a black border."""

    name: Literal["padded_crop"]
    padding_pixels: Annotated[int, Field(ge=1, le=1000)]


class MirrorView(Section):
    """A mirror image, with a probability; `mirror_top_bottom` is the flip about the X axis."""

    name: Literal["mirror_left_right", "mirror_top_bottom"]
    probability: Probability


class AffineView(Section):
    """A random affine map about the centre: rotation, shift, zoom and shear."""

    name: Literal["affine"]
    degrees: Degrees  # rotation is drawn from [-degrees, degrees]
    translate: Translate  # shift is drawn from ±translate of width and of height
    scale: Scales
    shear_degrees: ShearDegrees  # drawn from [-shear_degrees, shear_degrees]
    fill: Literal["nearest", "black"]  # pixels from outside the picture: its edge pixels continued, or black


class ColourJitterView(Section):
    """Brightness, contrast and saturation times factors from [1 - x, 1 + x]; hue shifted by up to `hue` of a turn."""

    name: Literal["colour_jitter"]
    brightness: Jitter
    contrast: Jitter
    saturation: Jitter
    hue: Annotated[float, Field(ge=0, le=0.5)]


class GreyView(Section):
    """The picture without colour, with a probability."""

    name: Literal["grey"]
    probability: Probability


View = Annotated[
    RandomResizedCropView | PaddedCropView | MirrorView | AffineView | ColourJitterView | GreyView,
    Field(discriminator="name"),
]


class CrossEntropyLoss(Section):
    """-log p of the true class."""

    name: Literal["cross_entropy"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    balanced: bool  # images of rare classes weigh more, so that every class has the same weight in all


class FocalLoss(Section):
    """-(1 - p)^gamma log p of the true class."""

    name: Literal["focal"]
    gamma: Annotated[float, Field(ge=0)]
    alpha: tuple[Positive, ...] | None  # a weight per class, in the order of their names


class BinaryCrossEntropyLoss(Section):
    """The cross entropy of one sigmoid unit, for two classes."""

    name: Literal["binary_cross_entropy"]


class JointLoss(Section):
    """Cross entropy + centre_weight x contrastive-center loss (study 002, eq. 8)."""

    name: Literal["joint"]
    centre_weight: Annotated[float, Field(ge=0)]  # lambda
    delta: Positive
    centre_lr: Positive  # of the centres' own SGD


LossParams = Annotated[CrossEntropyLoss | FocalLoss | BinaryCrossEntropyLoss | JointLoss, Field(discriminator="name")]


class ConstantSchedule(Section):
    """One rate for all epochs."""

    name: Literal["constant"]


class StepSchedule(Section):
    """lr x factor^floor(epoch / every)."""

    name: Literal["step"]
    every: Annotated[int, Field(ge=1)]  # epochs
    factor: Positive


class MultiStepSchedule(Section):
    """lr, multiplied by factor after each listed epoch."""

    name: Literal["multistep"]
    at: tuple[Annotated[int, Field(ge=1)], ...]  # epochs
    factor: Positive


class CosineSchedule(Section):
    """Half a cosine, from lr down to 0 at the last epoch."""

    name: Literal["cosine"]


ScheduleParams = Annotated[
    ConstantSchedule | StepSchedule | MultiStepSchedule | CosineSchedule, Field(discriminator="name")
]


class TrainParams(Section):
    """How the network is fitted."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    accumulate_batches: Annotated[int, Field(ge=1)]
    online: tuple[View, ...]
    cached_views: Annotated[int, Field(ge=0, le=1000)]
    loss: LossParams
    optimizer: Literal["sgd", "adam", "adamw", "nadam", "rmsprop"]
    lr: Positive
    lr_factors: dict[str, Annotated[float, Field(ge=0)]]  # by layer name, as `pipe train` prints it
    momentum: Annotated[float, Field(ge=0, lt=1)]  # of sgd
    nesterov: bool  # of sgd
    rmsprop_alpha: Annotated[float, Field(ge=0, lt=1)]  # of rmsprop: what the mean of squared gradients keeps per step
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: ScheduleParams
    warmup_epochs: Annotated[int, Field(ge=0)]
    clip_gradient_norm: Positive | None
    adapt: Literal["head", "tune", "auto"]  # of a frozen backbone
    estimate: Literal["auto", "folds", "holdout"]
    refit: Literal["auto", "all", "none"]
    keep: Literal["last", "best_val", "best_test"]
    watch_test: bool
    test_called: Literal["test", "val"]  # the test side in trackers
    log_with: tuple[Literal["tensorboard", "mlflow", "wandb"], ...]  # trackers of accelerate
    patience_epochs: Annotated[int, Field(ge=1)] | None
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    unknown_false_alarms: Annotated[float, Field(gt=0, lt=1)] | None

    @model_validator(mode="after")
    def _check_together(self) -> TrainParams:
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov needs optimizer: sgd and a momentum above 0 (Adam with it is nadam)")
        if self.patience_epochs is not None and self.keep == "best_test":
            raise ValueError("patience_epochs looks at the validation loss; it does not go with keep: best_test")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs}; expected fewer than the {self.epochs} epochs")
        return self

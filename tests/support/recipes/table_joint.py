"""Study 002, line by line: the faces and the birds."""

from __future__ import annotations

from tests.support.recipes.lines import CROSS_ENTROPY, FEW, MIRROR, RANDOM_CROP, Line, Table

JOINT = {"name": "joint", "centre_weight": 1.0, "delta": 1.0, "centre_lr": 0.5}

JOINT_STUDY: list[Line] = [
    ("augment.copies", [], "ours: no copies on disk are named"),
    ("split.protocol", "grouped", "ours: near duplicates stay on one side"),
    ("split.val", None, "训练与测试集"),
    ("split.rounding", "nearest", "ours"),
    ("split.counts", None, "ours: the ratio says it"),
    ("split.augmented_in_test", False, "ours: there are no copies"),
    ("split.keep", False, "ours: the params alone deal the pictures"),
    ("model.weights", "none", "ours: no pretraining is named, and a rate of 0.1 is that of random weights"),
    ("model.freeze", "none", "一起对网络参数与中心参数进行优化与更新"),
    ("model.head", "plain", "网络的主干分支不会受到影响"),
    ("model.pooling", "average", "ours: as published"),
    ("model.output", "softmax", "通过 SoftMax 激活函数处理规范所有类别概率"),
    ("image.size", 224, "224×224"),
    ("image.mean", "auto", "ours"),
    ("image.std", "auto", "ours"),
    ("train.cached_views", 0, "ours: views are drawn anew every epoch"),
    ("train.optimizer", "sgd", "都使用 SGD^[9] 优化器进行优化"),
    ("train.momentum", 0.9, "ours: not given"),
    ("train.nesterov", False, "ours: not given"),
    ("train.weight_decay", 0.0, FEW),
    ("train.estimate", "holdout", "ours: the text has one test side"),
    ("train.keep", "last", "ours: which epoch the tables show is not said"),
    ("train.watch_test", True, "ours: the test side is the only held-out one"),
    ("train.test_called", "test", "将数据集划分为训练与测试集"),
]


def _joint_rows() -> Table:
    rows: Table = {}
    for name, arch in (("MobileNetV2", "mobilenet_v2"), ("ResNet34", "resnet34")):
        rows[f"{name}, SoftMax Loss"] = [
            ("model.arch", arch, f"{name}"),
            ("train.loss", CROSS_ENTROPY, "使用交叉熵损失来计算预测类别标签和实际类别标签"),
        ]
        rows[f"{name}, Joint Loss"] = [
            ("model.arch", arch, f"{name}"),
            ("train.loss", JOINT, "中心对比损失的系数一直设置为 1"),
            ("train.loss.delta", 1.0, "是防止分母为 0 的参数,默认设置为 1"),
            ("train.loss.centre_lr", 0.5, "类别中心学习率设置为 0.5"),
        ]
    return rows


LFW: Table = {
    "*": [
        *JOINT_STUDY,
        ("split.ratio", "8:2", "将数据集划分为训练与测试集,保持 8:2 的比例"),
        ("image.crop", "center", "只采用中心裁剪技术"),
        ("image.center_fraction", 224 / 250, "具体尺寸为 250×250 像素"),
        ("train.epochs", 300, "随后的网络训练方案总共跨越了300个 epoch"),
        ("train.batch_size", 64, "批量大小设置为64"),
        (
            "train.online",
            [RANDOM_CROP, MIRROR],
            "首先对训练数据进行随机裁剪和缩放操作,产生224×224 像素大小的三通道图像",
        ),
        ("train.lr", 0.01, "网络的学习率微调为0.01"),
        ("train.schedule", {"name": "constant"}, "ours: none is named for the faces"),
    ],
    **_joint_rows(),
}

CUB: Table = {
    "*": [
        *JOINT_STUDY,
        ("split.ratio", "8:2", "数据集遵守 8:2 的比例将其划分为两个子集"),
        ("image.crop", "squash", "通过修改尺寸操作将所有图像统一调整为 224×224 的彩色三通道图像"),
        ("train.epochs", 300, "ours: as for the faces; the last drop is at 250"),
        ("train.batch_size", 64, "ours: as for the faces"),
        ("train.online", [{"name": "padded_crop", "padding_pixels": 4}, MIRROR],
         "使用随机裁剪,并在裁剪区域周围应用 4 像素填充"),
        ("train.lr", 0.1, "初始学习率设定为 0.1"),
        ("train.schedule", {"name": "multistep", "at": [50, 150, 250], "factor": 0.1},
         "特别是 50、150 和 250 时,缩放到原来的 0.1 倍"),
    ],
    **_joint_rows(),
}  # fmt: skip

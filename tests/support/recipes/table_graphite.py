"""Study 000, line by line."""

from __future__ import annotations

from typing import Any

from tests.support.recipes.lines import CROSS_ENTROPY, FEW, MIRROR, RANDOM_CROP, Line, Table


def _focal(gamma: float) -> dict[str, Any]:
    return {"name": "focal", "gamma": gamma, "alpha": None}


def _graphite_rows(name: str, arch: str, words: str) -> Table:
    improved: list[Line] = [
        ("model.arch", arch, words),
        ("model.head", "fc", "重新设计新的输出模块载入网络的全连接层"),
        ("model.freeze", "all", "冻结模型架构的特征层"),
    ]
    return {
        name: [
            ("model.arch", arch, words),
            ("model.head", "plain", "将未改进的模型、改进后的模型与同时修改损失函数的网络模型进行对比"),
            ("model.freeze", "none", "对所有模型进行 100 个 epoch 的微调"),
            ("train.loss", CROSS_ENTROPY, "传统的 CNN 模型大多使用交叉熵损失函数"),
        ],
        f"I-{name}": [*improved, ("train.loss", CROSS_ENTROPY, "在上述改进基础上, 将结合 FL 损失函数的网络记为")],
        f"I-{name} + FL": [*improved, ("train.loss", _focal(0.25), "本文多次实验后,设置 $\\gamma = 0.25$")],
    }


def _frozen_row(name: str, arch: str) -> Table:
    """A second reading of a plain row."""
    return {
        f"{name}, frozen features (ours)": [
            ("model.arch", arch, "以 VGG16、ResNet34 和 MobileNet V2 为基础模型"),
            ("model.head", "plain", "将未改进的模型、改进后的模型与同时修改损失函数的网络模型进行对比"),
            ("model.freeze", "all", "ours: plain and frozen networks take nearly the same time in table 3"),
            ("train.loss", CROSS_ENTROPY, "传统的 CNN 模型大多使用交叉熵损失函数"),
        ]
    }


GRAPHITE: Table = {
    "*": [
        ("extract.frames_per_second", 1.0, "将拍摄的石墨视频按帧提取图像,每秒 1 帧"),
        ("augment.copies", [
            {"name": "mirror_top_bottom"},
            {"name": "rotate_90"},
            {"name": "mirror_left_right"},
            {"name": "affine", "degrees": 15.0, "translate": 0.1, "scale": [0.9, 1.1], "shear_degrees": 10.0,
             "fill": "reflect"},
        ], "对收集到的图像分别做垂直翻转、样本旋转 90°、绕 X 轴翻转以及仿射变换等操作"),
        ("split.protocol", "random", "按照比例随机选取数据集2860张(80%)作为训练集对网络进行训练"),
        ("split.augmented_in_test", True, "我们只有3575张训练和测试图像"),
        ("split.keep", False, "ours: the params alone deal the pictures"),
        ("split.ratio", "8:2", "715张(20%)作为测试集验证网络的性能"),
        ("split.val", None, "将训练集与测试集分开处理"),
        ("split.rounding", "nearest", "ours: 20 % of 1,020, 965, 715 and 875 are whole numbers"),
        ("split.counts", None, "ours: the ratio says it"),
        ("model.weights", "imagenet", "该方法利用一个巨大的数据库上的预先训练模型CNN来帮助学习目标任务"),
        ("model.pooling", "average", "在载入新的输出模块前, 均添加一个全局平均池化层"),
        ("model.fc_widths", [256, 128], "ours: 调试连接层 FC1、FC2 的输出参数, and no number"),
        ("model.fc_dropouts", [0.5, 0.5], "在连接层 FC1、FC2 中均加入 Dropout, 设置随机丢失概率 $p = 0.5$"),
        ("model.output", "softmax", "最后使用 Softmax 非线性的最终分类层"),
        ("image.size", 224, "统一图像像素为 224×224"),
        ("image.crop", "squash", "ours: how test pictures come to 224 x 224 is not said"),
        ("image.mean", [0.5, 0.5, 0.5], "以0.5的均值与0.5的标准差分别对每个通道的数据正则化处理"),
        ("image.std", [0.5, 0.5, 0.5], "以0.5的均值与0.5的标准差分别对每个通道的数据正则化处理"),
        ("train.epochs", 100, "对所有模型进行 100 个 epoch 的微调"),
        ("train.batch_size", 32, "批量大小为 32"),
        ("train.online", [RANDOM_CROP, MIRROR], "依概率(设置 $p = 0.5$)对图像进行水平翻转"),
        ("train.cached_views", 0, "在模型训练过程中获得 batch 数据之后,然后对这个 batch 的数据进行增强"),
        ("train.optimizer", "nadam", "Nesterov 动量设为 0.9"),
        ("train.lr", 0.0002, "以 0.0002 为初始学习率"),
        ("train.weight_decay", 0.0, FEW),
        ("train.schedule", {"name": "constant"}, "ours: an initial rate, and no schedule"),
        ("train.estimate", "holdout", "ours: the text has one test side"),
        ("train.keep", "last", "ours: which epoch the table shows is not said"),
        ("train.watch_test", True, "最后得到模型损失与准确率的对比曲线如图 5、图 6 和图 7 所示"),
        ("train.test_called", "test", "将训练集与测试集分开处理"),
    ],
    **_graphite_rows("VGG16", "vgg16", "以 VGG16、ResNet34 和 MobileNet V2 为基础模型"),
    **_graphite_rows("ResNet34", "resnet34", "以 VGG16、ResNet34 和 MobileNet V2 为基础模型"),
    **_graphite_rows("MobileNet V2", "mobilenet_v2", "以 VGG16、ResNet34 和 MobileNet V2 为基础模型"),
    **_frozen_row("VGG16", "vgg16"),
    **_frozen_row("ResNet34", "resnet34"),
    **_frozen_row("MobileNet V2", "mobilenet_v2"),
    "I-MobileNet V2 + FL, gamma 2 (ours)": [
        ("model.arch", "mobilenet_v2", "ours: the smallest of the three"),
        ("model.head", "fc", "重新设计新的输出模块载入网络的全连接层"),
        ("model.freeze", "all", "冻结模型架构的特征层"),
        ("train.loss", _focal(2.0), "ours: the exponent of the focal loss's own authors"),
    ],
}  # fmt: skip

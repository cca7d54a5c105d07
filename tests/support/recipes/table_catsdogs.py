"""Study 004, line by line."""

from __future__ import annotations

from tests.support.recipes.lines import FEW, MIRROR, Line, Table

_AUGMENTED: list[Line] = [
    ("train.online", [
        {"name": "affine", "degrees": 40.0, "translate": 0.2, "scale": [0.8, 1.2], "shear_degrees": 11.3,
         "fill": "nearest"},
        MIRROR,
    ], "随机 40 度的旋转角, 随机 20% 的平移, 随机 20% 的放大缩小, 随机 20% 的斜向拉伸并允许翻转"),
    ("train.lr", 0.00001, "学习率为 1e-5"),
    ("train.epochs", 100, "ours: that of the book it cites"),
]  # fmt: skip
_SMALL: list[Line] = [
    ("model.arch", "small_cnn", "我们使用 4 个 Conv2D + MaxPooling 的组合"),
    ("model.weights", "none", "我们自建了一个小型的卷积神经网络, 并对其进行训练"),
    ("model.freeze", "none", "我们自建了一个小型的卷积神经网络, 并对其进行训练"),
    ("model.fc_widths", [512], "ours: that of the book it cites"),
    ("model.fc_dropouts", [0.0], "ours: dropout is named for the last rung only"),
]
_FROZEN: list[Line] = [
    ("model.weights", "imagenet", "我们在 VGG19 预训练特征提取网络后面加上了两层全连接网络"),
    ("model.freeze", "all", "引入预训练模型 VGG19"),
    ("model.fc_widths", [256], "ours: two dense layers are one hidden and the unit; 256 is that of the book it cites"),
    ("model.fc_dropouts", [0.0], "ours: dropout is named for the last rung only"),
    ("train.online", [], "并且还可以像上文一样使用数据增强技术来提高准确率"),
    ("train.lr", 0.00001, "学习率为 1e-5, 训练结果如 图 9"),
    ("train.epochs", 30, "ours: that of the book it cites"),
]
CATSDOGS: Table = {
    "*": [
        ("augment.copies", [], "ours: the transforms are random, so they are drawn anew every epoch"),
        ("split.protocol", "random", "我们将其两类分别随机分出了 1000 张作为训练集"),
        ("split.augmented_in_test", False, "ours: there are no copies"),
        ("split.keep", False, "ours: the params alone deal the pictures"),
        ("split.counts", {"train": 1000, "val": 500, "test": 500}, "各 500 张作为验证集 500 张作为测试集数目"),
        ("split.ratio", "8:2", "ours: holds where counts are null"),
        ("split.val", 0.2, "ours: holds where counts are null"),
        ("split.rounding", "nearest", "ours: holds where counts are null"),
        ("model.pooling", "flatten", "然后在其顶部添加 Flatten 层和 Dense 层进行输出"),
        ("model.head", "fc", "然后在其顶部添加 Flatten 层和 Dense 层进行输出"),
        ("model.output", "sigmoid", "网络的最后一层是使用 sigmoid 激活的单一单元"),
        ("image.size", 150, "将 JPEG 文件解码为 RGB 像素网格 (150×150)"),
        ("image.crop", "squash", "ours: as Keras's target_size does"),
        ("image.mean", [0.0, 0.0, 0.0], "将像素值 (0-255) 缩放到 [0,1] 区间"),
        ("image.std", [1.0, 1.0, 1.0], "将像素值 (0-255) 缩放到 [0,1] 区间"),
        ("train.batch_size", 100, "每一个 batch 有 100 个样本"),
        ("train.cached_views", 0, "利用多种能够生成可信图像的随机变换来增加样本"),
        ("train.loss", {"name": "binary_cross_entropy"}, "使用二元交叉熵作为损失函数"),
        ("train.optimizer", "rmsprop", "优化算法为 RMSprop"),
        ("train.rmsprop_alpha", 0.9, "ours: what Keras takes where nothing is said"),
        ("train.weight_decay", 0.0, FEW),
        ("train.schedule", {"name": "constant"}, FEW),
        ("train.estimate", "holdout", "ours: the text has one test side"),
        ("train.keep", "last", "ours: which epoch is tested is not said"),
        ("train.watch_test", False, "对比训练集与验证集的训练结果"),
    ],
    "small CNN": [
        *_SMALL,
        ("train.lr", 0.0001, "学习率为 $1e-4$"),
        ("train.online", [], "首先, 我们对于自建的神经网络在数据及上进行了训练"),
        ("train.epochs", 30, "ours: that of the book it cites"),
    ],
    "small CNN + augmentation": [*_SMALL, *_AUGMENTED],
    "VGG19 frozen": [("model.arch", "vgg19", "引入预训练模型 VGG19"), *_FROZEN],
    "VGG16 frozen": [("model.arch", "vgg16", "发现 VGG19 比 VGG16 的表现强大约 1%"), *_FROZEN],
    "VGG19, block 5 open": [
        ("model.arch", "vgg19", "引入预训练模型 VGG19"),
        ("model.weights", "imagenet", "在更大数据集上训练出来 VGG19 网络"),
        ("model.freeze", {"open_convolutions": 4}, "我们解锁了后 VGG19 网络里的第五个卷积块的后四层卷积"),
        ("model.fc_widths", [256], "ours: as before"),
        (
            "model.fc_dropouts",
            [0.5],
            "ours: 还在网络训练过程中加入了 Dropout, and no number; that of the book it cites",
        ),
        *_AUGMENTED,
    ],
}

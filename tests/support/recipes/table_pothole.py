"""Study 003, line by line."""

from __future__ import annotations

from tests.support.recipes.lines import CROSS_ENTROPY, FEW, MIRROR, RANDOM_CROP, Table

POTHOLE: Table = {
    "*": [
        ("augment.copies", [], "ours: the transforms are random, so they are drawn anew every epoch"),
        ("split.protocol", "grouped", "ours: not said how the photos were divided"),
        ("split.ratio", "8:2", "ours: not given"),
        ("split.val", None, "在每个轮次中处理训练和验证集"),
        ("split.rounding", "nearest", "ours"),
        ("split.counts", None, "ours: not given"),
        ("split.augmented_in_test", False, "ours: there are no copies"),
        ("split.keep", False, "ours: the params alone deal the pictures"),
        ("model.weights", "imagenet", "卷积层默认使用Pytorch已经训练好的权重和偏置参数进行初始化"),
        ("model.freeze", "all", "即冻结卷积层"),
        ("model.head", "linear", "更新后为2048个特征和2个类"),
        ("model.pooling", "average", "用于将最后的全局平均池化层的输出映射到输出类别数量"),
        ("model.output", "softmax", "logSoftmax函数用于将模型的输出转化为概率分布"),
        ("image.size", 224, "对所有训练集和测试集的格式大小进行统一规格化224 x 224格式"),
        ("image.crop", "squash", "ours: how pictures come to 224 x 224 is not said"),
        ("image.mean", [0.485, 0.456, 0.406], "选取imagenet数据集的均值参数集[0.485,0.456,0.406]"),
        ("image.std", [0.229, 0.224, 0.225], "标准差参数集[0.229,0.224,0.225]"),
        ("train.batch_size", 4, "ours: that of the tutorial it cites"),
        ("train.online", [
            {"name": "affine", "degrees": 45.0, "translate": 0.0, "scale": [0.8, 1.2], "shear_degrees": 0.0,
             "fill": "black"},
            RANDOM_CROP,
            MIRROR,
            {"name": "colour_jitter", "brightness": 0.2, "contrast": 0.1, "saturation": 0.1, "hue": 0.1},
            {"name": "grey", "probability": 0.025},
        ], "随机旋转、翻转、放大、缩放、裁剪、颜色扰动(随机调整图像亮度、对比度、饱和度、色相属性)、概率转灰度图"),
        ("train.cached_views", 0, "ours: views are drawn anew every epoch"),
        ("train.loss", CROSS_ENTROPY, "对于全连接层处理分类问题,选择采用交叉熵函数"),
        ("train.optimizer", "sgd", "ours: that of the tutorial it cites"),
        ("train.lr", 0.001, "ours: A0 is not given; that of the tutorial it cites"),
        ("train.momentum", 0.9, "ours: that of the tutorial it cites"),
        ("train.nesterov", False, FEW),
        ("train.weight_decay", 0.0, FEW),
        ("train.schedule", {"name": "step", "every": 7, "factor": 0.1}, "采用StepLR学习率逐渐衰减的策略"),
        ("train.estimate", "holdout", "ours: the text has one test side"),
        ("train.keep", "best_test", "并记录最佳模型及其性能指标"),
        ("train.watch_test", True, "将训练集和测试集的损失率相减,取绝对值,最后求平均值"),
        ("train.test_called", "test", "将训练集和测试集的损失率相减,取绝对值,最后求平均值"),
    ],
    **{
        f"ResNet-{depth}, {epochs} epochs": [
            ("model.arch", f"resnet{depth}", "选择Resnet-152、Resnet-50、Resnet-18进行比较"),
            ("train.epochs", epochs, {10: "选择最优模型epoch为10的resnet-152模型", 20: "经过20轮次(Epoch)"}[epochs]),
        ]
        for depth in (18, 50, 152)
        for epochs in (10, 20)
    },
}  # fmt: skip

"""Study 001, line by line."""

from __future__ import annotations

from typing import Any

from tests.support.recipes.lines import CROSS_ENTROPY, FEW, Line, Table


def _fish_row(arch: str, **changed: Any) -> list[Line]:
    published = {
        "lr": (0.0001, "設定學習率為固定的值0.000 1"),
        "batch_size": (16, "批尺寸的數值設定為16"),
        "epochs": (10, "訓練周期設置為10"),
    }
    values = published | changed
    words = "ResNet34、ResNet50以及ResNet101"
    return [("model.arch", arch, words), *((f"train.{key}", *values[key]) for key in published)]


FISH: Table = {
    "*": [
        ("augment.copies", [
            {"name": "zoom", "scale": [0.8, 1.2], "fill": "reflect"},
            {"name": "brightness", "factor": [0.8, 1.2]},
        ], "采用尺度變換和內容變換的方式對數據集進行增強處理"),
        ("split.protocol", "grouped", "ours: photos on their own, so no photo is divided"),
        ("split.ratio", "9:1", "按照9∶1的比例分為訓練集和驗證集"),
        ("split.val", None, "其中,訓練集1 739張,驗證集178張"),
        ("split.rounding", "down", "其中,訓練集1 739張,驗證集178張"),
        ("split.counts", None, "ours: the ratio says it"),
        ("split.augmented_in_test", False, "ours: copies of training photos only"),
        ("split.keep", False, "ours: the params alone deal the pictures"),
        ("model.weights", "imagenet", "試驗前下載3個預訓練模型"),
        ("model.freeze", "all", "通過凍結底層學習率調整新的全連接層學習率"),
        ("model.head", "linear", "最后由全連接層FC對這個特征向量進行計算并輸出類別概率"),
        ("model.pooling", "average", "再經過AvgPOOL平均池化層輸出特征向量"),
        ("model.output", "softmax", "最后由全連接層FC對這個特征向量進行計算并輸出類別概率"),
        ("image.size", 224, "ours: what ResNets are published for"),
        ("image.crop", "squash", "ours: the whole fish is seen"),
        ("image.mean", "auto", "ours: those of the weights"),
        ("image.std", "auto", "ours: those of the weights"),
        ("train.online", [], "并且采取相同的預處理操作"),
        ("train.cached_views", 0, "ours: there are no random views"),
        ("train.loss", CROSS_ENTROPY, "以交叉熵誤差函數(Cross Entropy Loss)作為損失函數"),
        ("train.optimizer", "adam", "分類識別模型訓練所使用的優化器是Adam"),
        ("train.weight_decay", 0.0, FEW),
        ("train.schedule", {"name": "constant"}, "設定學習率為固定的值0.000 1"),
        ("train.estimate", "holdout", "ours: the text has one test side"),
        ("train.keep", "last", "ours: the text says after ten rounds"),
        ("train.watch_test", True, "繪制訓練損失loss曲線以及驗證的準確率與loss曲線"),
        ("train.test_called", "val", "按照9∶1的比例分為訓練集和驗證集"),
    ],
    "ResNet34": _fish_row("resnet34"),
    "ResNet50": _fish_row("resnet50"),
    "ResNet101": _fish_row("resnet101"),
    "ResNet50, lr 0.00005": _fish_row("resnet50", lr=(0.00005, "將其設置為0.000 05和0.000 30")),
    "ResNet50, lr 0.0003": _fish_row("resnet50", lr=(0.0003, "將其設置為0.000 05和0.000 30")),
    "ResNet50, batch 8": _fish_row("resnet50", batch_size=(8, "ours: below 64, as 設置批尺寸小于64為宜 asks")),
    "ResNet50, batch 32": _fish_row("resnet50", batch_size=(32, "ours: below 64, as 設置批尺寸小于64為宜 asks")),
    "ResNet50, 5 epochs": _fish_row("resnet50", epochs=(5, "ours: 調整迭代次數, and no number")),
    "ResNet50, 20 epochs": _fish_row("resnet50", epochs=(20, "ours: 調整迭代次數, and no number")),
}  # fmt: skip

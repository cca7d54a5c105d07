"""The stages that turn phone clips into a trained and honestly judged image classifier.

A room for each stage: `extract`, `augment`, `split`, `train`, `evaluate`, `report`. Shared rooms: `network`, `media`,
`draw`, `base`. Above them: `tools`, `cli` and `params.py`. The stages `export`, `parity` and `bundle` are in `export`.
"""

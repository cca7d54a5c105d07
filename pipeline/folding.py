"""Frozen batch norm as part of the convolution before it: the same features for less work."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Copy a module, with every frozen batch norm folded into the frozen convolution before it, in eval mode.

    The copy gives the same output but for rounding; the original is untouched. What cannot be followed is copied as
    it is.
    """
    folded = copy.deepcopy(module).eval()
    for convolution_name, norm_name in _pairs(folded):
        convolution, norm = folded.get_submodule(convolution_name), folded.get_submodule(norm_name)
        if not isinstance(convolution, nn.Conv2d) or not isinstance(norm, _BatchNorm):
            continue
        if any(parameter.requires_grad for part in (convolution, norm) for parameter in part.parameters()):
            continue
        folded.set_submodule(convolution_name, fuse_conv_bn_eval(convolution, norm))
        # timm's batch norm holds the activation that follows it.
        folded.set_submodule(norm_name, nn.Sequential(*norm.children()))
    return folded


class _Tracer(fx.Tracer):
    """Looks only into what holds a batch norm, which is all that has to be followed."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002  # fx's signature
        return isinstance(module, _BatchNorm) or not _has_batch_norm(module)


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in module.modules())


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of each convolution and the batch norm that alone takes what it gives; both are used once."""
    if not _has_batch_norm(module):
        return
    try:
        nodes = [node for node in _Tracer().trace(module).nodes if node.op == "call_module"]
    except (TraceError, TypeError):
        return  # its forward pass decides by values
    names = [str(node.target) for node in nodes]
    for node, name in zip(nodes, names, strict=True):
        before = node.all_input_nodes[0]
        if (
            isinstance(module.get_submodule(name), _BatchNorm)
            and before.op == "call_module"
            and isinstance(module.get_submodule(str(before.target)), nn.Conv2d)
            and len(before.users) == 1
            and names.count(name) == names.count(str(before.target)) == 1
        ):
            yield str(before.target), name

"""Fully sharded data parallelism (FSDP2): each rank holds a shard of every weight, gradient and optimizer moment.

A layer's weights are all-gathered when it runs and then freed, so the whole model need not fit on one GPU. The original
model stays unsharded in main memory and receives the trained weights.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from engine import distributed
from model.vlm import VLM


class LockstepVLM(VLM):
    """A VLM that runs the same layers whatever is in its batch."""

    lockstep = True

    def embed_batch(self, batch) -> Tensor:
        """As VLM.embed_batch, with a zero term that keeps encoder and projector in the graph of a batch without images:
        a rank that skipped their backward pass would deadlock the others."""
        embeddings = super().embed_batch(batch)
        if bool(batch.image_mask.any()):
            return embeddings
        parts = [part for part in (self.vision, self.projector) if part is not None]
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        return embeddings + sum((p.sum() for p in trained), torch.zeros(())) * 0


@contextlib.contextmanager
def divided(model: VLM, device: torch.device, dtype: torch.dtype) -> Iterator[VLM]:
    """A context that gives a copy of the model sharded over all ranks, and copies the trained weights back at the end,
    one at a time, to the main process's model."""
    copied = sharded(model, device, dtype)
    yield copied
    with torch.no_grad():
        for part, parameter in zip(copied.parameters(), model.parameters(), strict=True):
            value = distributed.full_tensor(part)
            if distributed.is_main():
                parameter.copy_(value)


def sharded(model: VLM, device: torch.device, dtype: torch.dtype) -> VLM:
    """A copy of the model on the device, its weights sharded over all ranks except for a frozen encoder's.

    Those of layers are gathered in dtype; gradients are summed in float32. All ranks must run every layer equally
    often, forward and backward: LockstepVLM and engine/loop.py see to that.
    """
    training, model = model.training, copy.deepcopy(model)
    model.__class__ = LockstepVLM
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    param_dtype = None if dtype == torch.float32 else dtype
    policy = MixedPrecisionPolicy(param_dtype, torch.float32, cast_forward_inputs=False)
    for layer in model.llm.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    apart = set()  # an encoder that only some of the ranks may need in a step
    if model.vision is not None and not model.trains_vision:
        model.vision.to(device)
        apart = set(model.vision.parameters())
    # reshard after the forward pass, so that optimizer and checkpoints find shards after a validation too
    fully_shard(model, mesh=mesh, ignored_params=apart, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # sums, as without shards
            module.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(model, "loss")
    model.train(training)
    return model

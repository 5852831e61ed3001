"""Process groups and sharding that a codebook refuses."""

import pytest
import torch
import torch.distributed as dist

from flatvq.errors import FlatvqError
from flatvq.quantize import Gradient, KMeansInit, VectorQuantizer


@pytest.fixture
def _one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_one_process", "unchecked")
def test_a_process_outside_the_process_group_is_refused():
    # What `dist.new_group` returns to a process that is not in the new group.
    quantizer = VectorQuantizer(8, 4, process_group=dist.GroupMember.NON_GROUP_MEMBER)
    with pytest.raises(FlatvqError, match="process 0 is not in the codebook's process group"):
        quantizer(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))


def test_fsdp1_is_refused_for_codes_that_learn_by_gradients():
    # FSDP1 needs a GPU; this is the mark that it leaves on a parameter.
    from torch.distributed.fsdp._common_utils import _set_fsdp_flattened

    quantizer = VectorQuantizer(8, 4, update=Gradient(), init=KMeansInit(1))
    _set_fsdp_flattened(quantizer.codebook.weight)
    with pytest.raises(FlatvqError, match="FSDP1"):
        quantizer(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))

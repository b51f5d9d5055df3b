"""Training on many processes: the plan of which dims are cut, the model of a rank, its state.

plan(graph, tp=2, ep=2)            which op is cut along which dim, where collectives stand; arithmetic only
ParallelModel.build(plan, ...)     this process's part of the model, with the emitted interface
state_dict, load                   its parameters and optimiser state, for torch.distributed.checkpoint
clip_gradients                     the global norm, every shard counted once
"""

from archc.train.parallel.plan import Plan, plan

__all__ = ["Plan", "plan"]

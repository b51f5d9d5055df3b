"""Training on many processes: the plan of which dims are cut, a process's part of the model, its state.

    plan(graph, tp=2, ep=2)                 which op is cut along which dim, where sums stand: arithmetic only (plan.py)
    ParallelModel(plan, weights, ...)       this process's part, with the emitted interface (model.py)
    state_dict(model, optimizer)            for torch.distributed.checkpoint, whatever the mesh (state.py)
    gradient_norm, clip_gradients           of the whole gradient, every shard counted once (clip.py)

The plan takes no torch; the rest is imported from its module.
"""

from archc.train.parallel.plan import Plan, plan

__all__ = ["Plan", "plan"]

"""`archc profile`: measures the machine at hand, for `archc estimate --hardware local`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def profile(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="YAML to write; else that of `local`.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    format: Annotated[str | None, typer.Option(help="Format of models to time: fp32 on a CPU, bf16 on a GPU.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads to use; torch's choice when not given.")] = None,
) -> None:
    """Measure this machine: matrix products, streaming, and every kind of op of emitted models.

    Takes about two minutes, and is best left the machine to itself. The YAML serves wherever hardware is asked for:
    `archc estimate MODEL --hardware local`.
    """
    import torch

    from archc.hardware import local_profile
    from archc.profile.measure import measure
    from archc.profile.write import write_profile

    if threads is not None:
        torch.set_num_threads(threads)
    where = torch.device(device)
    fmt = format or ("fp32" if where.type == "cpu" else "bf16")
    made = measure(where, fmt, say=lambda text: typer.echo(f"measuring {text}", err=True))
    path = out or local_profile()
    write_profile(made, path)
    rates = ", ".join(f"{name} {rate:g} TFLOP/s" for name, rate in made.peak_tflops.items())
    typer.echo(f"{made.title}: {rates}; {made.bandwidth_gb_s:g} GB/s")
    typer.echo(f"wrote {path}: use it as --hardware {'local' if out is None else path}")

#!/usr/bin/python3
"""ns per parameter of torch.optim on the CPU: a peer for bench_kernels.

    torch_optim.py PARAMETERS THREADS ROUNDS [LABEL]

A line a rule, or of the one with this label: its label in bench_kernels, a tab, and the median of the faster of
PyTorch's own paths (single-tensor, foreach, and fused where this version has it). The gradient is set
anew by reference, so only step() is timed.
"""
import statistics
import sys
import time
import warnings

import torch

warnings.simplefilter("ignore")
RULES = [
    ("sgd", torch.optim.SGD, {"lr": 1e-3}),
    ("sgd momentum=0.9", torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9}),
    ("adagrad", torch.optim.Adagrad, {}),
    ("rmsprop", torch.optim.RMSprop, {}),
    ("rmsprop centered", torch.optim.RMSprop, {"centered": True}),
    ("adam", torch.optim.Adam, {}),
    ("adam weight_decay", torch.optim.Adam, {"weight_decay": 0.01}),
    ("adam amsgrad", torch.optim.Adam, {"amsgrad": True}),
    ("adamw", torch.optim.AdamW, {}),
    ("nadam", torch.optim.NAdam, {}),
    ("radam", torch.optim.RAdam, {}),
    ("adamax", torch.optim.Adamax, {}),
    ("adadelta", torch.optim.Adadelta, {}),
    ("asgd", torch.optim.ASGD, {}),
    ("rprop", torch.optim.Rprop, {}),
]


def time_step(optimizer, parameters, rounds):
    seconds = []
    optimizer.step()
    for _ in range(rounds):
        began = time.perf_counter()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) / parameters * 1e9


def paths(make, hyper):
    """Constructors of the paths that this version has."""
    for flags in ({"foreach": False}, {"foreach": True}, {"foreach": False, "fused": True}):
        def build(parameter, flags=flags):
            return make([parameter], **hyper, **flags)
        yield build


def main():
    parameters, threads, rounds = (int(word) for word in sys.argv[1:4])
    only = sys.argv[4:]
    torch.set_num_threads(threads)
    for label, make, hyper in RULES:
        if only and label not in only:
            continue
        best = None
        for build in paths(make, hyper):
            parameter = torch.nn.Parameter(torch.ones(parameters))
            parameter.grad = torch.full((parameters,), 0.01)
            try:
                taken = time_step(build(parameter), parameters, rounds)
            except (TypeError, RuntimeError, ValueError):
                continue
            best = taken if best is None else min(best, taken)
        print(f"{label}\t{best:.4f}", flush=True)


if __name__ == "__main__":
    main()

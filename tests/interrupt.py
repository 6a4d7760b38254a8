"""Ctrl-C in the middle of a training."""

import os
import signal
from contextlib import contextmanager

__all__ = ["interrupt_at"]


@contextmanager
def interrupt_at(monkeypatch, trainer, step):
    """Interrupt while a class of trainers computes its error for the step-th time (from 0)."""
    error, calls = trainer.error, 0

    def interrupted(self, batch):
        nonlocal calls
        if calls == step:
            os.kill(os.getpid(), signal.SIGINT)
        calls += 1
        return error(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "error", interrupted)
        yield
    assert calls > step

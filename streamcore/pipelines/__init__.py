"""Pipelines: tasks that depend on each other, run to their end, kept with all that happened.

=====================  ==========================================================================
``models, yaml``       what people write; ``checks`` and ``graph``: what is asked of it
``deciding``           the pure core: what follows from a run's state and the time
``orchestrator``       claims runs and executes them (``execution``), attempt by attempt (``attempts``)
``kinds/``             the types of tasks, one module each
``guard, children``    processes that never outlive the right to run them
=====================  ==========================================================================
"""

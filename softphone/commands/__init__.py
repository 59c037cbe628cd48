"""The commands of ``softphone``, one module each: ``add(commands)`` describes it, ``run`` is its function."""

"""The commands of ``mobility``, a module for each family; its ``add(commands)`` describes them to argparse."""

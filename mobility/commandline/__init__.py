"""What else can be made of the parser of a command: completion for shells, a manual page."""

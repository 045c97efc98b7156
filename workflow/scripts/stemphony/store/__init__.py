"""How files are kept: atomically, with claims, checkpoints and small JSON."""

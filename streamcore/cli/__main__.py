"""``python -m streamcore.cli``: the same as the command ``streamcore``."""

from streamcore.cli import main

main()

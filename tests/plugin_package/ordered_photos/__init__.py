"""A package that adds to tunesvc; its entry points stand in pyproject.toml."""

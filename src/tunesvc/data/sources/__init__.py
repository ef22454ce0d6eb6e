"""Where images come from: one file per kind, each with `find(spec, target, base) -> Found`."""

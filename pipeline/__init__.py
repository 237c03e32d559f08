"""Everything that touches disk, network, processes or a cluster."""

from importlib.util import find_spec

NEEDED = ("pyarrow", "pydantic", "ruamel", "simplejpeg", "tqdm")  # the extra `pipeline`; Ray only where used

if _missing := [name for name in NEEDED if find_spec(name) is None]:
    raise ImportError(f"pipeline needs {', '.join(_missing)}, and matchnet was installed without; in the checkout: "
                      'pip install -c constraints.txt -e ".[pipeline]"')

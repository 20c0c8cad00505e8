"""Compiles all that the program imports, Python's own modules too, to where PYTHONPYCACHEPREFIX says.

On a read-only root nothing is compiled at the start, and the official Python images leave Python's own modules
uncompiled. Run in the build by the Python of the image.
"""

import py_compile
import sys
from contextlib import suppress
from importlib import import_module
from pkgutil import walk_packages

import unique_users

# The commands of another extra lack their packages; what they import before that is compiled as well.
for module in walk_packages(unique_users.__path__, "unique_users."):
    if not module.name.endswith("__main__"):
        with suppress(ModuleNotFoundError):
            import_module(module.name)

files = {getattr(module, "__file__", None) or "" for module in sys.modules.values()}
for file in sorted(file for file in files if file.endswith(".py")):
    py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)

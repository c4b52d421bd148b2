"""The compiled modules. They only save time: where they cannot be built, Python code does the same work."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCE = Path("src")

extensions = cythonize(
    [
        Extension(".".join(path.relative_to(SOURCE).with_suffix("").parts), [str(path)])
        for path in sorted(SOURCE.rglob("*.pyx"))
    ],
    build_dir="build",
    language_level=3,
)
for extension in extensions:
    extension.optional = True  # a failed build is a warning

setup(ext_modules=extensions)
